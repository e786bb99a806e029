"""What a field says of itself besides its type: no list of keys elsewhere has to be kept in step."""

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
"""Earlier versions left out these: a hash that has one more or less is another hash for old runs."""


def test_the_keys_that_no_hash_covers() -> None:
    assert unhashed_keys() >= UNHASHED
    for key in ("train.steps", "method.arm.alpha", "task.name", "model.path", "train.rewards.format", "trackingx"):
        assert is_hashed(key), key
    for key in (*UNHASHED, "tracking.wandb.mode", "train.health.entropy_floor"):
        assert not is_hashed(key), key


def test_a_mark_is_what_leaves_a_key_out_of_the_hash() -> None:
    config = compose(["task=humaneval"])
    unprotected = config.task.model_copy(update={"sandbox": "none"})
    assert config_hash(config.model_copy(update={"task": unprotected})) == config_hash(config)
    slower = config.task.model_copy(update={"seconds": 99.0})
    assert config_hash(config.model_copy(update={"task": slower})) != config_hash(config)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_leaves_validation_scores_what_they_are(kind: str) -> None:
    """A subclass that redefines a field has to repeat its marks."""
    unmeasured = {"rl_problems", "test_problems", *(["sandbox"] if kind == "code" else [])}
    assert set(KINDS[kind].marked(Mark.UNMEASURED)) == unmeasured


def test_what_decides_verdicts() -> None:
    decides = {kind: section.marked(Mark.DECIDES_VERDICTS) for kind, section in KINDS.items()}
    assert decides.pop("code") == ["tests", "seconds", "seconds_in_all", "memory_mb"]
    assert decides.pop("maths") == ["relative_tolerance"]
    assert decides.pop("own") == ["verdict"]
    assert not any(decides.values())


def test_a_mark_that_does_not_exist_is_an_error_where_it_is_written() -> None:
    with pytest.raises(AttributeError):

        class _Typo(Section):
            seed: Annotated[int, Mark.UNHASHD]
