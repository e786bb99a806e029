"""Held-out problems that are training problems too: counted by their questions, before anything is measured.

Splits share no id, but a data set may hold a question twice under two ids, and a test set may repeat what another
data set trains on. Scores on such problems say nothing about new ones.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection, Sequence

from progrpo_cli.console import log
from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.config import TaskConfig

SHOWN = 3  # ids in a warning


def normalised(question: str) -> str:
    """The question with compatible characters, case and white space made alike (Unicode NFKC, casefold)."""
    return " ".join(unicodedata.normalize("NFKC", question).casefold().split())


def fingerprints(problems: Sequence[Problem], config: TaskConfig) -> list[str]:
    """For each problem 16 hexadecimal digits of its normalised question, without the text of the task's template.

    Two tasks that wrap one question in different templates give it the same fingerprint.
    """
    before, _, after = getattr(config, "template", "{question}").partition("{question}")
    questions = [problem.prompt.removeprefix(before).removesuffix(after) for problem in problems]
    return [_digest(normalised(question)) for question in questions]


def count_seen(problems: Sequence[Problem], config: TaskConfig, trained_on: Collection[str], *, split: str) -> int:
    """How many of the problems have a question that was trained on; a warning names the first of them.

    Args:
        problems: held-out problems.
        config: their task.
        trained_on: :func:`fingerprints` of the training problems.
        split: what the warning calls the problems.
    """
    known = set(trained_on)
    seen = [p.id for p, mark in zip(problems, fingerprints(problems, config), strict=True) if mark in known]
    if seen:
        more = ", ..." if len(seen) > SHOWN else ""
        log.warning(
            f"{len(seen)} of {len(problems)} {split} problems of {config.label} are among the training problems (the "
            f"same question but for case and spaces): {', '.join(seen[:SHOWN])}{more}"
        )
    return len(seen)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
