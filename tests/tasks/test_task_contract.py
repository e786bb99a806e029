"""Tests that every shipped task must pass."""

import pytest
import schemas
from bubblewrap import require_bubblewrap

from progrpo_cli.config import paths
from progrpo_cli.config.compose import compose
from progrpo_cli.tasks.base import SPLITS, VERDICTS, Attempt, Task
from progrpo_cli.tasks.config import KINDS
from progrpo_cli.tasks.registry import make_task

ODD = [
    "",
    "\x00",
    "x" * 10_000,
    "9" * 10_000,
    "(" * 5_000,
    "¹ ½ ∞",
    "1+\n1",
    "=" * 100,
    "\ud800",
    "\\boxed{",
    "a" * 10**6,
]


@pytest.fixture(scope="module", params=paths.names(paths.EXPERIMENTS / "task"))
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Task:
    overrides = [f"task={request.param}"]
    if request.param in schemas.SCHEMAS:  # without a hub, use our own problems in the dataset's schema
        overrides.append(f"task.dataset={schemas.write(request.param, tmp_path_factory.mktemp('data'))}")
    config = compose(overrides).task
    if config.kind == "code":
        require_bubblewrap()
    return make_task(config)


def test_configuration_and_task_agree_on_canonical_forms(task: Task) -> None:
    kind = next(section for section in KINDS.values() if type(task).__name__ == section.__name__.removesuffix("Config"))
    assert kind.canonical_forms == task.canonical_forms


def test_ids_are_unique_and_no_problem_is_in_two_splits(task: Task) -> None:
    problems = [problem for split in SPLITS for problem in task.problems(split)]
    assert len(problems) == len({problem.id for problem in problems}) >= 20
    assert all(problem.id and problem.prompt for problem in problems)


def test_problems_do_not_change_between_calls(task: Task) -> None:
    for split in SPLITS:
        assert list(task.problems(split)) == list(task.problems(split))


def test_any_text_gets_a_verdict_in_order(task: Task) -> None:
    problem = next(problem for split in SPLITS for problem in task.problems(split))
    verdicts = task.verdicts([Attempt(problem, text, finished) for text in ODD for finished in (True, False)])
    assert len(verdicts) == 2 * len(ODD)
    assert set(verdicts[1::2]) == {"truncated"}
    assert set(verdicts[::2]) <= set(VERDICTS) - {"correct", "truncated"}
    assert task.verdicts([]) == []


def test_a_task_without_canonical_forms_returns_none(task: Task) -> None:
    problem = next(problem for split in SPLITS for problem in task.problems(split))
    assert task.canonical_forms == (task.name == "countdown")
    if not task.canonical_forms:
        assert task.canonical(problem, "\\boxed{1}") is None
