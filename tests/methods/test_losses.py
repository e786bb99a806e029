"""The trainer's loss and its slope by each token's log p, against each method's definition in plain Python.

They are computed on one recorded rollout; the base, the sampler and the current policy are all different.
"""

import math
from functools import cache
from pathlib import Path

import definitions as by
import pytest
import torch
from replay import LIMIT, MIXED_IN_FIRST, RECORDED, SIZE, Replayed, replay

from progrpo_cli.methods.registry import method_classes

EQUAL = {"rel": 2e-4, "abs": 2e-6}
CACHE = 0.2 * LIMIT
PASSK = "method=passk method.k=2"  # the groups of the recorded rollout hold four


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory):
    """A function from overrides to their replay, cached."""
    return cache(lambda overrides: replay(tmp_path_factory.mktemp("replay"), *overrides.split()))


def prompt_confidence(result: Replayed) -> dict[str, float]:
    """c(q) of each prompt under the policy that sampled, from an unpadded forward pass."""
    values = {}
    tokenizer, sampler = result.trainer.processing_class, result.policies["sampler"]
    for prompt in {row.prompt for row in result.rows}:
        ids = torch.tensor(tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            logps = sampler(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        values[prompt] = math.exp(logps.gather(1, ids[1:, None]).mean().item())
    return values


def log_partition(result: Replayed) -> dict[str, float]:
    """log Z of each prompt: the head on the mean of the last hidden states of an unpadded forward pass."""
    values = {}
    tokenizer, current = result.trainer.processing_class, result.policies["current"]
    for prompt in {row.prompt for row in result.rows}:
        ids = torch.tensor(tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            hidden = current.get_decoder()(input_ids=ids[None]).last_hidden_state[0]
            values[prompt] = result.trainer._head.module(hidden.mean(dim=0)).item()
    return values


def entropy(result: Replayed) -> float:
    values = [value for row in result.rows for value in row.entropy]
    return sum(values) / len(values)


def with_arm(result: Replayed, advantages: list[float], alpha: float) -> list[float]:
    return by.arm(result.rows, advantages, prompt_confidence(result), alpha)


DEFINITIONS = {
    "method=grpo": lambda r: by.token_level(r.rows, by.grpo_advantages(r.rows)),
    "method=progrpo": lambda r: by.token_level(r.rows, with_arm(r, by.grpo_advantages(r.rows), 1.0)),
    "method=grpo_classic": lambda r: by.add(
        by.sequence_level(r.rows, by.grpo_advantages(r.rows), 0.2, 0.2), by.kl_to_base(r.rows, 0.04)
    ),
    "method=dr_grpo": lambda r: by.constant_normaliser(r.rows, by.dr_grpo_advantages(r.rows)),
    "method=dr_grpo method.arm.alpha=0.5": lambda r: by.constant_normaliser(
        r.rows, with_arm(r, by.dr_grpo_advantages(r.rows), 0.5)
    ),
    "method=gspo": lambda r: by.gspo(r.rows, by.grpo_advantages(r.rows), 3e-4, 4e-4),
    "method=gspo method.arm.alpha=0.5": lambda r: by.gspo(
        r.rows, with_arm(r, by.grpo_advantages(r.rows), 0.5), 3e-4, 4e-4
    ),
    "method=dapo": lambda r: by.token_level(r.rows, by.dapo_advantages(r.rows, CACHE, 0.5)),
    "method=kl_cov": lambda r: by.kl_cov(r.rows, by.grpo_advantages(r.rows), 0.02, 1.0),
    "method=flowrl": lambda r: by.flowrl(r.rows, by.grpo_advantages(r.rows), log_partition(r), 15.0),
    PASSK: lambda r: by.token_level(r.rows, by.passk_advantages(r.rows, 2)),
    "method=unlikeliness": lambda r: by.token_level(r.rows, by.unlikeliness_advantages(r.rows, 0.25)),
    "method=w_reinforce": lambda r: by.token_level(r.rows, [0.1 if row.correct else -1.0 for row in r.rows]),
}
# With LoRA: one method without extras, and those with a head or a reference policy.
UNDER_LORA = ("method=progrpo", "method=flowrl", "method=grpo_classic")
DEFINITIONS |= {f"{overrides} model.lora.rank=2": DEFINITIONS[overrides] for overrides in UNDER_LORA}


@pytest.mark.parametrize("overrides", DEFINITIONS)
def test_the_loss_and_its_slopes_equal_the_definitions(replayed, overrides: str) -> None:
    result = replayed(overrides)
    loss, slopes = DEFINITIONS[overrides](result)
    assert result.loss == pytest.approx(loss, **EQUAL)
    for row, expected in zip(result.rows, slopes, strict=True):
        assert row.gradient == pytest.approx(expected, **EQUAL), row.text


def test_the_recorded_rollout_can_distinguish_the_methods(replayed) -> None:
    rows = replayed("method=grpo").rows
    right = [[row.correct for row in group] for group in by.groups(rows)]
    assert [any(group) and not all(group) for group in right].count(True) == MIXED_IN_FIRST
    assert any(map(all, right))
    assert not all(map(any, right))
    assert any(row.truncated for row in rows)
    assert any(row.correct and len(row.logps) > LIMIT - CACHE for row in rows), "an overlong completion that is right"
    ratios = [math.exp(new - old) for row in rows for new, old in zip(row.logps, row.old, strict=True) if row.advantage]
    assert any(ratio > 1.28 for ratio in ratios)
    assert any(ratio < 0.8 for ratio in ratios)
    away = [abs(old - base) for row in rows for old, base in zip(row.old, row.base, strict=True)]
    assert max(away) > 0.1, "the policy that sampled is not the base"


def test_entropy_bonus_is_grpo_minus_the_mean_token_entropy(replayed) -> None:
    plain, bonus = replayed("method=grpo"), replayed("method=entropy_bonus method.entropy_coef=0.5")
    assert bonus.loss == pytest.approx(plain.loss - 0.5 * entropy(plain), **EQUAL)
    # The slope by log p is grpo's: the entropy depends on the whole distribution and has its own gradient.
    assert [row.gradient for row in bonus.rows] == [pytest.approx(row.gradient, **EQUAL) for row in plain.rows]
    assert not torch.allclose(bonus.gradient, plain.gradient, rtol=0.01)


def test_clip_cov_removes_the_gradient_of_some_candidates_only(replayed) -> None:
    plain = replayed("method=grpo method.clip_low=null method.clip_high=null")  # the authors do not clip the ratio
    result = replayed("method=clip_cov method.fraction=0.02")
    advantages = by.grpo_advantages(result.rows)
    covariance = by.covariances(result.rows, advantages)
    candidates, removed = 0, 0
    for row, plain_row, row_covariance in zip(result.rows, plain.rows, covariance, strict=True):
        for slope, before, value in zip(row.gradient, plain_row.gradient, row_covariance, strict=True):
            is_candidate = 1 <= value <= 5 and before != 0
            candidates += is_candidate
            if slope != before:
                assert slope == 0
                assert is_candidate
                removed += 1
    assert candidates > removed == int(0.02 * sum(len(row.logps) for row in result.rows))


@pytest.mark.parametrize("lora", ["", " model.lora.rank=2"])
def test_progrpo_at_alpha_zero_has_grpos_gradient_to_the_last_bit(replayed, lora: str) -> None:
    zero, grpo = replayed(f"method=progrpo method.arm.alpha=0{lora}"), replayed(f"method=grpo{lora}")
    assert zero.loss == grpo.loss
    assert zero.gradient.any()
    assert torch.equal(zero.gradient, grpo.gradient)


def test_no_two_methods_have_the_same_gradient(replayed) -> None:
    """Not even up to a factor, which has almost no effect with Adam."""
    names = sorted(method_classes())
    gradients = {name: replayed(PASSK if name == "passk" else f"method={name}").gradient for name in names}
    directions = torch.stack([gradients[name] / gradients[name].norm() for name in names])
    assert directions.isfinite().all()
    distances = torch.cdist(directions, directions)
    same = [
        (one, other, distances[i, j].item())
        for i, one in enumerate(names)
        for j, other in enumerate(names)
        if i < j and distances[i, j] < 1e-3
    ]
    assert len(names) >= 13
    assert not same


def test_with_lora_only_adapters_have_a_gradient_and_the_reference_is_the_base(replayed) -> None:
    for method in ("flowrl", "grpo_classic"):
        result = replayed(f"method={method} model.lora.rank=2")
        trained = [name for name, p in result.trainer.model.named_parameters() if p.grad is not None]
        assert trained
        assert all("lora_" in name for name in trained)
        away = [abs(old - base) for row in result.rows for old, base in zip(row.old, row.base, strict=True)]
        assert max(away) > 0.1, "the adapters have moved the policy away from the base"
        reference = result.output["reference_logps" if method == "flowrl" else "ref_per_token_logps"]
        for index, row in enumerate(result.rows):
            assert reference[index, : len(row.base)].tolist() == pytest.approx(row.base, abs=1e-5)
    head = list(replayed("method=flowrl model.lora.rank=2").trainer._head.module.parameters())
    assert all(p.grad is not None for p in head)


def test_dapo_trains_on_mixed_groups_of_both_rollouts(replayed) -> None:
    rows = replayed("method=dapo").rows
    first, second = list(RECORDED["first"]), list(RECORDED["second"])
    assert [row.prompt for row in rows[::SIZE]] == [*first[:2], *second[1:3]]


@pytest.mark.parametrize("method", ["progrpo", "kl_cov", "flowrl", "grpo_classic"])
def test_micro_batches_add_up_to_the_whole(replayed, method: str, tmp_path: Path) -> None:
    """Gradient accumulation. KL-Cov chooses tokens within each micro-batch, so here it penalises all of them."""
    all_tokens = " method.fraction=1.0" if method == "kl_cov" else ""
    whole = replayed(f"method={method}{all_tokens}")
    parts = replay(tmp_path, *f"method={method}{all_tokens} train.micro_batch_size=8".split())
    assert parts.loss == pytest.approx(whole.loss, **EQUAL)
    assert torch.allclose(parts.gradient, whole.gradient, rtol=1e-3, atol=1e-5)
