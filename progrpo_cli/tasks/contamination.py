"""Count held-out problems whose question is also a training problem.

No id occurs in two splits, but a dataset may contain the same question under two ids, and a test set may repeat
questions of the dataset that was trained on. Scores on such problems say nothing about new problems.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence

from progrpo_cli.console import log
from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.config import TaskConfig
from progrpo_cli.tasks.data import digest

SHOWN = 3  # ids in a warning


def normalised(question: str) -> str:
    """Return the question with Unicode NFKC, casefold and single spaces applied."""
    return " ".join(unicodedata.normalize("NFKC", question).casefold().split())


def fingerprints(problems: Sequence[Problem], config: TaskConfig) -> list[str]:
    """Return 16 hexadecimal digits for each problem: a digest of its normalised question.

    The text of the task's template is removed first, so two tasks with different templates give the same question
    the same fingerprint.
    """
    before, _, after = getattr(config, "template", "{question}").partition("{question}")
    questions = [problem.prompt.removeprefix(before).removesuffix(after) for problem in problems]
    return [digest(normalised(question)) for question in questions]


def count_seen(problems: Sequence[Problem], config: TaskConfig, trained_on: Collection[str], *, split: str) -> int:
    """Return the number of problems whose question was trained on. A warning names the first of them.

    Args:
        problems: held-out problems.
        config: the task of the problems.
        trained_on: :func:`fingerprints` of the training problems.
        split: the name of the split, for the warning.
    """
    training = set(trained_on)
    seen = [p.id for p, mark in zip(problems, fingerprints(problems, config), strict=True) if mark in training]
    if seen:
        more = ", ..." if len(seen) > SHOWN else ""
        log.warning(
            f"{len(seen)} of {len(problems)} {split} problems of {config.label} are among the training problems (the "
            f"same question except for case and spaces): {', '.join(seen[:SHOWN])}{more}"
        )
    return len(seen)
