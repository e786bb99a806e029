"""How the lab's base policy is made: seeded, to be stopped at any time, and cut off at any time."""

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


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("small_batches")
def test_it_is_seeded_and_loads_as_any_policy(tmp_path: Path) -> None:
    records = [base_policy.make(tmp_path / name, tmp_path / f"{name}-work", 2, 1) for name in ("one", "other")]
    assert equal(weights(tmp_path / "one"), weights(tmp_path / "other"))
    assert records[0]["final_loss_nats_per_token"] == records[1]["final_loss_nats_per_token"]
    model, tokenizer = policy.load(policy.resolve(str(tmp_path / "one")), "float32", "cpu", chat=False)
    ids = tokenizer("3 5 7 12=24:").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "3 5 7 12=24:"
    assert ids[0] == tokenizer.bos_token_id
    assert len(ids) == 11
    assert model.num_parameters() == records[0]["parameters"]
    assert (tmp_path / "one" / "model.safetensors").stat().st_size < 2.5e6


@pytest.mark.usefixtures("small_batches")
def test_stopped_in_either_part_it_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base_policy.make(tmp_path / "whole", tmp_path / "whole-work", 4, 4)
    step = base_policy.Training.step

    def until(batch: int) -> None:
        def stopping(self: base_policy.Training, rate: float) -> None:
            if self.batch == batch:
                raise KeyboardInterrupt
            step(self, rate)

        monkeypatch.setattr(base_policy.Training, "step", stopping)

    for batch in (3, 5, 7):  # the states of the batches 2, 4 and 6 are there
        until(batch)
        with pytest.raises(KeyboardInterrupt):
            base_policy.make(tmp_path / "stopped", tmp_path / "work", 4, 4)
    until(-1)
    base_policy.make(tmp_path / "stopped", tmp_path / "work", 4, 4)
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


@pytest.mark.usefixtures("small_batches")
def test_a_policy_is_cut_off_a_training_that_went_on(tmp_path: Path) -> None:
    work = tmp_path / "work"
    base_policy.train(work, steady=8, decay=0)
    assert sorted(path.name for path in work.iterdir()) == ["steady-4.pt", "steady-8.pt"]
    base_policy.make(tmp_path / "cut", work, 4, 2)
    base_policy.make(tmp_path / "whole", tmp_path / "other-work", 4, 2)
    assert equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [
        base_policy.rate_factor(batch, steady=base_policy.WARMUP, decay=3) for batch in range(base_policy.WARMUP + 3)
    ]
    assert rates[:2] == pytest.approx([1 / base_policy.WARMUP, 2 / base_policy.WARMUP])
    assert rates[-4:] == pytest.approx([1, 1, 0.75, 0.5])


def test_the_shipped_policy_is_as_its_record_says_and_knows_its_prompts() -> None:
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
    chosen = logps.gather(2, encoded.input_ids[:, 1:, None])[..., 0]
    c_prompt = confidence(chosen, encoded.attention_mask[:, 1:], 1.0)
    assert 0.25 < c_prompt.mean().item() < 0.5  # 0.01 if the prompts had not been in the loss


def test_the_shipped_policy_seldom_takes_steps_and_is_right_more_often_when_it_does() -> None:
    """What the lab is about; lower temperatures remove the steps."""
    model, tokenizer = policy.load(policy.resolve(LAB_BASE), "float32", "cpu", chat=False)
    task = Countdown(30, {"rl": 0, "validation": 0, "test": 100})
    problems = task.problems("test")
    share, right = {}, {}
    for temperature in (1.0, 0.3):
        sampler = HfSampler(model, tokenizer, temperature=temperature, top_p=1.0, max_new_tokens=30, chat=False)
        drawn = sampler.sample([Batch([problem.prompt for problem in problems] * 32, seed=0)])
        attempts = [
            Attempt(problem, sample.text, sample.finished)
            for problem, sample in zip(problems * 32, next(iter(drawn)), strict=True)
        ]
        verdicts = task.verdicts(attempts)
        stepwise = [style_of(attempt.text) != "direct" for attempt in attempts]
        share[temperature] = sum(stepwise) / len(stepwise)
        for steps in (False, True):
            found = [verdict == "correct" for verdict, step in zip(verdicts, stepwise, strict=True) if step == steps]
            right[temperature, steps] = sum(found) / len(found)
    assert 0.05 < share[1.0] < 0.12
    assert share[0.3] < 0.02
    assert right[1.0, True] > right[1.0, False] + 0.2
    assert right[1.0, True] > right[0.3, False] + 0.08
