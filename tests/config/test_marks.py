"""Marks on the fields of sections."""

from typing import Annotated

import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash, is_hashed, unhashed_keys
from progrpo_cli.section import Mark, Section
from progrpo_cli.tasks.config import KINDS

UNHASHED = {
    *("seed", "tracking", "device", "experiment", "model.name", "task.sandbox"),
    *("train.save_every", "train.eval_every", "train.keep_checkpoints", "train.keep_completions", "train.health"),
    *("train.gradient_checkpointing", "train.generation.server_url", "train.generation.server_sync_port"),
    "train.generation.gpu_memory_utilization",
}
"""The keys that earlier versions left out of the hash. Another set would change the hashes of old runs."""


def test_unhashed_keys() -> None:
    assert unhashed_keys() >= UNHASHED
    for key in ("train.steps", "method.arm.alpha", "task.name", "model.path", "train.rewards.format", "trackingx"):
        assert is_hashed(key), key
    for key in (*UNHASHED, "tracking.wandb.mode", "train.health.entropy_floor"):
        assert not is_hashed(key), key


def test_a_marked_field_is_not_hashed() -> None:
    config = compose(["task=humaneval"])
    unprotected = config.task.model_copy(update={"sandbox": "none"})
    assert config_hash(config.model_copy(update={"task": unprotected})) == config_hash(config)
    slower = config.task.model_copy(update={"seconds": 99.0})
    assert config_hash(config.model_copy(update={"task": slower})) != config_hash(config)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fields_that_do_not_change_validation_scores(kind: str) -> None:
    """A subclass that redefines a field has to repeat its marks."""
    unmeasured = {"rl_problems", "test_problems", *(["sandbox"] if kind == "code" else [])}
    assert set(KINDS[kind].marked(Mark.UNMEASURED)) == unmeasured


def test_fields_that_decide_verdicts() -> None:
    fields = {kind: section.marked(Mark.DECIDES_VERDICTS) for kind, section in KINDS.items()}
    assert fields.pop("code") == ["tests", "seconds", "seconds_in_all", "memory_mb"]
    assert fields.pop("maths") == ["relative_tolerance"]
    assert fields.pop("own") == ["verdict"]
    assert not any(fields.values())


def test_a_misspelt_mark_is_an_error_when_the_class_is_defined() -> None:
    with pytest.raises(AttributeError):

        class _Typo(Section):
            seed: Annotated[int, Mark.UNHASHD]
