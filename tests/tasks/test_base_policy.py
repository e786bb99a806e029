"""How the lab's base policy is made: seeded, to be stopped at any time, and cut off at any time."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from progrpo_cli import policy
from progrpo_cli.tasks.countdown import base_policy


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_policy, "ROWS", {"direct": 6, "sum": 4, "product": 4})
    monkeypatch.setattr(base_policy, "SAVE_EVERY", 2)
    monkeypatch.setattr(base_policy, "KEEP_EVERY", 4)
    monkeypatch.setattr(base_policy, "WARMUP", 2)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


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


def test_stopped_in_either_part_it_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_policy_is_cut_off_a_training_that_went_on(tmp_path: Path) -> None:
    work = tmp_path / "work"
    base_policy.train(work, steady=8, decay=0)
    assert sorted(path.name for path in work.iterdir()) == ["steady-4.pt", "steady-8.pt"]
    base_policy.make(tmp_path / "cut", work, 4, 2)
    base_policy.make(tmp_path / "whole", tmp_path / "other-work", 4, 2)
    assert equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [base_policy.rate_of(batch, steady=6, decay=3) for batch in range(9)]
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5])
