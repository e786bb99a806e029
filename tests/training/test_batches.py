"""Splitting a rollout over processes and micro-batches, and the messages if it does not divide evenly."""

import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError
from progrpo_cli.training.batches import micro_batches


def make_config(prompts: int, group_size: int, micro_batch_size: int, *overrides: str) -> Config:
    train = {
        "prompts_per_rollout": prompts,
        "group_size": group_size,
        "micro_batch_size": micro_batch_size,
    }
    return compose([*(f"train.{key}={value}" for key, value in train.items()), *overrides])


@pytest.mark.parametrize(
    ("prompts", "group_size", "micro_batch_size", "world", "expected"),
    [
        (4, 4, 256, 1, (16, 1)),
        (4, 4, 8, 1, (8, 2)),
        (4, 4, 256, 2, (8, 1)),  # a micro-batch is at most a process's part
        (4, 4, 4, 2, (4, 2)),
        (3, 4, 3, 2, (3, 2)),  # the second group is split over the processes
        (1, 6, 6, 3, (2, 1)),
    ],
)
def test_each_completion_is_in_one_micro_batch_of_one_process(
    prompts: int, group_size: int, micro_batch_size: int, world: int, expected: tuple[int, int]
) -> None:
    assert micro_batches(make_config(prompts, group_size, micro_batch_size), world) == expected
    assert expected[0] * expected[1] * world == prompts * group_size


@pytest.mark.parametrize(
    ("settings", "world", "parts"),
    [
        ((5, 5, 256), 2, ("over 2 processes", "try train.prompts_per_rollout=6")),
        ((3, 8, 8), 2, ("train.micro_batch_size=8", "12 completions", "try 6")),
        ((3, 4, 256, "method=dapo"), 2, ("method=dapo", "whole", "not a multiple of 2")),
    ],
)
def test_an_uneven_split_is_refused_with_values_that_work(settings: tuple, world: int, parts: tuple[str, ...]) -> None:
    config = make_config(*settings)
    micro_batches(config, 1)
    with pytest.raises(RequestError) as refused:
        micro_batches(config, world)
    message = str(refused.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_dapo_without_refills_may_split_a_group_over_processes() -> None:
    assert micro_batches(make_config(3, 4, 256, "method=dapo", "method.max_refills=0"), 2) == (6, 1)
