"""Making the lab's base policy: it is seeded, can be interrupted, and policies can be branched off."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from progrpo_cli.config.paths import ASSETS, LAB_BASE
from progrpo_cli.methods.arm import confidence
from progrpo_cli.policies import policy
from progrpo_cli.sampling.base import Batch
from progrpo_cli.sampling.hf import HfSampler
from progrpo_cli.tasks.base import Attempt
from progrpo_cli.tasks.countdown import base_pairs, base_policy
from progrpo_cli.tasks.countdown.problems import keys_of
from progrpo_cli.tasks.countdown.styles import style_of
from progrpo_cli.tasks.countdown.task import Countdown, prompt_of


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        base_policy, "ROWS", {0: {"direct": 6, "sum": 4, "product": 4}, 3: {"direct": 2, "sum": 4, "product": 6}}
    )
    monkeypatch.setattr(base_policy, "SAVE_EVERY", 2)
    monkeypatch.setattr(base_policy, "KEEP_EVERY", 4)
    monkeypatch.setattr(base_policy, "WARMUP", 2)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("small_batches")
def test_training_is_seeded_and_its_policy_can_be_loaded(tmp_path: Path) -> None:
    records = [base_policy.make(tmp_path / name, tmp_path / f"{name}-work", 2, 1) for name in ("one", "other")]
    assert are_equal(weights(tmp_path / "one"), weights(tmp_path / "other"))
    assert records[0]["final_loss_nats_per_token"] == records[1]["final_loss_nats_per_token"]
    model, tokenizer = policy.load(policy.resolve(str(tmp_path / "one")), "float32", "cpu", chat=False)
    ids = tokenizer("3 5 7 12=24:").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "3 5 7 12=24:"
    assert ids[0] == tokenizer.bos_token_id
    assert len(ids) == 11
    assert model.num_parameters() == records[0]["parameters"]
    assert (tmp_path / "one" / "model.safetensors").stat().st_size < 2.5e6


@pytest.mark.usefixtures("small_batches")
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base_policy.make(tmp_path / "whole", tmp_path / "whole-work", 4, 4)
    step = base_policy.Training.step

    def interrupt_at(batch: int) -> None:
        def interrupted_step(self: base_policy.Training, factor: float) -> None:
            if self.batch == batch:
                raise KeyboardInterrupt
            step(self, factor)

        monkeypatch.setattr(base_policy.Training, "step", interrupted_step)

    for batch in (3, 5, 7):  # the states after the batches 2, 4 and 6 have been saved
        interrupt_at(batch)
        with pytest.raises(KeyboardInterrupt):
            base_policy.make(tmp_path / "interrupted", tmp_path / "work", 4, 4)
    interrupt_at(-1)
    base_policy.make(tmp_path / "interrupted", tmp_path / "work", 4, 4)
    assert are_equal(weights(tmp_path / "whole"), weights(tmp_path / "interrupted"))


@pytest.mark.usefixtures("small_batches")
def test_a_policy_branches_off_an_earlier_state_of_a_longer_training(tmp_path: Path) -> None:
    work = tmp_path / "work"
    base_policy.train(work, steady=8, decay=0)
    assert sorted(path.name for path in work.iterdir()) == ["steady-4.pt", "steady-8.pt"]
    base_policy.make(tmp_path / "branched", work, 4, 2)
    base_policy.make(tmp_path / "whole", tmp_path / "other-work", 4, 2)
    assert are_equal(weights(tmp_path / "branched"), weights(tmp_path / "whole"))


def test_the_learning_rate_warms_up_stays_and_decays() -> None:
    rates = [
        base_policy.rate_factor(batch, steady=base_policy.WARMUP, decay=3) for batch in range(base_policy.WARMUP + 3)
    ]
    assert rates[:2] == pytest.approx([1 / base_policy.WARMUP, 2 / base_policy.WARMUP])
    assert rates[-4:] == pytest.approx([1, 1, 0.75, 0.5])


def test_the_shipped_policy_agrees_with_its_record_and_has_learned_its_prompts() -> None:
    directory = ASSETS / "lab-base"
    record = json.loads((directory / "record.json").read_text())
    assert record["rows_of_a_batch"] == {str(first): counts for first, counts in base_policy.ROWS.items()}
    assert record["seed"] == base_policy.SEED
    assert (record["steady_batches"], record["decay_batches"]) == (base_policy.STEADY, base_policy.DECAY)
    assert record["learning_rates"] == base_policy.LEARNING_RATES
    assert (directory / "model.safetensors").stat().st_size < 2.5e6
    model, tokenizer = policy.load(policy.resolve(LAB_BASE), "float32", "cpu", chat=False)
    assert model.num_parameters() == record["parameters"]
    assert tokenizer.get_vocab() == base_pairs.VOCABULARY
    prompts = [prompt_of(key) for key in keys_of("test")[:64]]
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="right")
    with torch.no_grad():
        logps = model(**encoded).logits[:, :-1].log_softmax(-1)
    token_logps = logps.gather(2, encoded.input_ids[:, 1:, None])[..., 0]
    prompt_confidence = confidence(token_logps, encoded.attention_mask[:, 1:], 1.0)
    assert 0.25 < prompt_confidence.mean().item() < 0.5  # it would be 0.01 without the prompts in the loss


def test_the_shipped_policy_seldom_answers_in_steps_and_is_right_more_often_then() -> None:
    """This is the point of the lab. At lower temperatures the steps disappear."""
    model, tokenizer = policy.load(policy.resolve(LAB_BASE), "float32", "cpu", chat=False)
    task = Countdown(30, {"rl": 0, "validation": 0, "test": 100})
    problems = task.problems("test")
    share, right = {}, {}
    for temperature in (1.0, 0.3):
        sampler = HfSampler(model, tokenizer, temperature=temperature, top_p=1.0, max_new_tokens=30, chat=False)
        batches = sampler.sample([Batch([problem.prompt for problem in problems] * 32, seed=0)])
        attempts = [
            Attempt(problem, sample.text, sample.finished)
            for problem, sample in zip(problems * 32, next(iter(batches)), strict=True)
        ]
        verdicts = task.verdicts(attempts)
        stepwise = [style_of(attempt.text) != "direct" for attempt in attempts]
        share[temperature] = sum(stepwise) / len(stepwise)
        for steps in (False, True):
            correct = [verdict == "correct" for verdict, step in zip(verdicts, stepwise, strict=True) if step == steps]
            right[temperature, steps] = sum(correct) / len(correct)
    assert 0.05 < share[1.0] < 0.12
    assert share[0.3] < 0.02
    assert right[1.0, True] > right[1.0, False] + 0.2
    assert right[1.0, True] > right[0.3, False] + 0.08
