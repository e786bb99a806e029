"""What every task must do, whatever it is about: one suite for all shipped tasks."""

import pytest

from progrpo_cli.config import paths
from progrpo_cli.config.compose import compose
from progrpo_cli.tasks.base import VERDICTS, Task
from progrpo_cli.tasks.registry import make_task

SPLITS = ("rl", "validation", "test")


@pytest.fixture(params=paths.names(paths.EXPERIMENTS / "task"))
def task(request: pytest.FixtureRequest) -> Task:
    return make_task(compose([f"task={request.param}"]).task)


def test_ids_are_unique_and_no_problem_is_in_two_splits(task: Task) -> None:
    ids = [problem.id for split in SPLITS for problem in task.problems(split)]
    assert len(ids) == len(set(ids)) > 100


def test_problems_are_the_same_each_time(task: Task) -> None:
    for split in SPLITS:
        assert list(task.problems(split)) == list(task.problems(split))


@pytest.mark.parametrize("text", ["", "\x00", "x" * 10_000, "9" * 10_000, "(" * 5_000, "¹ ½ ∞", "1+\n1", "=" * 100])
def test_any_text_gets_a_verdict(task: Task, text: str) -> None:
    problem = task.problems("test")[0]
    assert task.verdict(problem, text, finished=True) in VERDICTS
    assert task.verdict(problem, text, finished=True) != "correct"
    assert task.verdict(problem, text, finished=False) == "truncated"
