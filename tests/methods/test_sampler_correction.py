"""Methods on rollouts from vLLM, whose log-probabilities differ from the policy's or are missing.

TRL weights a completion by the ratio of the two policies' probabilities and drops it if the ratio is above 3. If the
sampler's log-probability is NaN, which vLLM sends as null, it uses the ratio 1.
"""

import math
from pathlib import Path

import pytest
import torch
from replay import RECORDED, copy_policy, make_trainer, perturb, replay, sample, scores, use_vllm_logps

NAN_FIRST, NAN_ALL = "the first is NaN", "all are NaN"
TEXTS = sorted(text for rollout in ("first", "second") for texts in RECORDED[rollout].values() for text in texts)
SAMPLER_RATIO = {text: (1.0, 1.5, 4.0, NAN_FIRST, NAN_ALL)[index % 5] for index, text in enumerate(TEXTS)}
WEIGHT = {text: {1.5: 1.5, 4.0: 0.0}.get(ratio, 1.0) for text, ratio in SAMPLER_RATIO.items()}


def sampler_logps(text: str, logps: list[float]) -> list[float | None]:
    ratio = SAMPLER_RATIO[text]
    if ratio == NAN_ALL:
        return [None] * len(logps)
    return [None if ratio == NAN_FIRST else logps[0] - math.log(ratio), *logps[1:]]


METHODS = ["grpo", "progrpo", "dapo", "dr_grpo", "gspo", "flowrl", "unlikeliness"]
METHODS += ["kl_cov method.fraction=1.0", "passk method.k=2"]


@pytest.mark.parametrize("overrides", METHODS)
def test_every_part_of_the_loss_is_weighted_and_nothing_else_changes(tmp_path: Path, overrides: str) -> None:
    plain = replay(tmp_path / "plain", *f"method={overrides}".split())
    corrected = replay(tmp_path / "corrected", *f"method={overrides}".split(), sampler_logps=sampler_logps)
    assert [row.advantage for row in corrected.rows] == pytest.approx([row.advantage for row in plain.rows], abs=1e-6)
    moved = 0
    for before, after in zip(plain.rows, corrected.rows, strict=True):
        assert before.text == after.text
        expected = [WEIGHT[after.text] * slope for slope in before.gradient]
        assert after.gradient == pytest.approx(expected, rel=1e-4, abs=1e-7), after.text
        moved += WEIGHT[after.text] != 1 and any(before.gradient)
    assert moved >= 2, "no completion with a gradient was weighted: not exercised"
    assert math.isfinite(corrected.loss)
    measured = corrected.trainer._metrics["train"]
    assert math.isfinite(measured["sampling/sampling_logp_difference/mean"][-1])
    assert measured["sampling/importance_sampling_ratio/min"][-1] == 0


@pytest.mark.parametrize("updates", [1, 2])
def test_arm_uses_the_trained_policys_probabilities_not_the_samplers(tmp_path: Path, updates: int) -> None:
    """Also with one update per rollout, where TRL would not score a rollout that transformers sampled."""
    _, trainer = make_trainer(tmp_path, "method=progrpo", f"train.updates_per_rollout={updates}")
    perturb(trainer.model, seed=1)
    policy = copy_policy(trainer.model)
    use_vllm_logps(trainer, policy, sampler_logps)
    output = sample(trainer)
    metrics = trainer.rollout_metrics  # complete before the loss: TRL has scored the rollout
    expected = []
    for prompt, prompt_mask, ids, mask in zip(
        *(output[f"{part}_{kind}"] for part in ("prompt", "completion") for kind in ("ids", "mask")), strict=True
    ):
        logps, _ = scores(policy, prompt[prompt_mask.bool()], ids[mask.bool()])
        lowest = sorted(logps)[: math.ceil(round(0.2 * len(logps), 9))]
        expected.append(math.exp(sum(lowest) / len(lowest)))
    assert list(trainer._logs["extra"]["c(o|q)"]) == pytest.approx(expected, abs=1e-5)
    assert metrics["arm/answer_confidence"] == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert torch.isfinite(output["advantages"]).all()
