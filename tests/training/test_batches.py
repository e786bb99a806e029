"""How a rollout is divided over processes and passes, and what is said where it cannot be."""

import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError
from progrpo_cli.training.batches import micro_batches


def configured(prompts: int, group_size: int, micro_batch_size: int, *overrides: str) -> Config:
    train = {
        "prompts_per_rollout": prompts,
        "group_size": group_size,
        "micro_batch_size": micro_batch_size,
    }
    return compose([*(f"train.{key}={value}" for key, value in train.items()), *overrides])


@pytest.mark.parametrize(
    ("prompts", "group_size", "micro_batch_size", "world", "divided"),
    [
        (4, 4, 256, 1, (16, 1)),
        (4, 4, 8, 1, (8, 2)),
        (4, 4, 256, 2, (8, 1)),  # a micro-batch is at most what a process has
        (4, 4, 4, 2, (4, 2)),
        (3, 4, 3, 2, (3, 2)),  # the second group is on both processes
        (1, 6, 6, 3, (2, 1)),
    ],
)
def test_every_completion_is_in_one_pass_of_one_process(
    prompts: int, group_size: int, micro_batch_size: int, world: int, divided: tuple[int, int]
) -> None:
    assert micro_batches(configured(prompts, group_size, micro_batch_size), world) == divided
    assert divided[0] * divided[1] * world == prompts * group_size


@pytest.mark.parametrize(
    ("settings", "world", "said"),
    [
        ((5, 5, 256), 2, ("over 2 processes", "try train.prompts_per_rollout=6")),
        ((3, 8, 8), 2, ("train.micro_batch_size=8", "12 completions", "try 6")),
        ((3, 4, 256, "method=dapo"), 2, ("method=dapo", "whole", "no multiple of 2")),
    ],
)
def test_what_does_not_divide_is_refused_with_what_does(settings: tuple, world: int, said: tuple[str, ...]) -> None:
    config = configured(*settings)
    micro_batches(config, 1)
    with pytest.raises(RequestError) as refused:
        micro_batches(config, world)
    message = str(refused.value)
    assert "\n" not in message
    assert all(part in message for part in said), message


def test_dapo_without_refills_may_have_groups_on_two_processes() -> None:
    assert micro_batches(configured(3, 4, 256, "method=dapo", "method.max_refills=0"), 2) == (6, 1)
