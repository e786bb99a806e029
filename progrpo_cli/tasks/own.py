"""A user's own problems: exact answers, or a verdict function by import path. See ``docs/own-task.md``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from progrpo_cli.errors import RequestError, WorkError, nearest
from progrpo_cli.tasks import answers
from progrpo_cli.tasks.base import VERDICTS, Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.config import OwnConfig
from progrpo_cli.tasks.data import DatasetProblems, Row

VerdictFunction = Callable[[dict[str, Any], str], object]


def answer_in(text: str) -> str:
    """The answer that is marked (see :mod:`progrpo_cli.tasks.answers`), else the last line that is not blank.

    Where that line states an answer (``The answer is 5.``), what it states; empty where there is none.
    """
    marked = answers.marked_answer(text)
    if marked is not None:
        return marked
    lines = [line for line in (answers.said(text) or "").splitlines() if line.strip()]
    return (answers.stated_answer(lines[-1]) or lines[-1].strip()) if lines else ""


def same_answer(answer: str, expected: str) -> bool:
    """Equal texts, or equal decimal numbers."""
    if answer == expected:
        return True
    try:
        return len(answer) < 100 and Decimal(answer) == Decimal(expected)
    except InvalidOperation:
        return False


def verdict_function(path: str) -> VerdictFunction:
    """The function ``module:function``, looked for from the working directory first.

    Raises:
        RequestError: it cannot be imported, or is no function.
    """
    name, _, function = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except Exception as error:  # of the user's own module: anything
        raise RequestError(f"task.verdict={path}: cannot import {name}: {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise RequestError(f"task.verdict={path}: no function {function!r} in {name}{nearest(function, vars(module))}")
    return found  # type: ignore[no-any-return]


class Own:
    """Problems of a user's own file."""

    canonical_forms = False

    def __init__(self, config: OwnConfig) -> None:
        """Take the task; a verdict function is imported now.

        Raises:
            RequestError: the verdict function cannot be imported.
        """
        self.name = config.label
        self.max_new_tokens = config.max_new_tokens
        self.chat = config.chat
        self._config = config
        self._judge = verdict_function(config.verdict) if config.verdict else None
        self._data = DatasetProblems(config, self._read)
        self._rows: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, str] = {}

    def problems(self, split: Split) -> list[Problem]:
        """The split's problems in the file's order.

        Raises:
            RequestError: a line is wrong; names it.
        """
        return self._data.problems(split)

    def _read(self, row: Row, identifier: str) -> str:
        """The prompt of a row; keeps the row and its answer."""
        if self._judge is not None:
            self._rows[identifier] = row.whole()
        if self._config.fields.answer is not None:
            self._answers[identifier] = row.text("answer").strip()
            if not self._answers[identifier] and self._judge is None:
                raise RequestError(f"{row.place}: an empty answer")
        return row.text("question")

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """By the verdict function, else by comparing answers.

        Raises:
            WorkError: the function raised, or returned what is no verdict; names the problem.
        """
        return [self._verdict(attempt) for attempt in attempts]

    def _verdict(self, attempt: Attempt) -> Verdict:
        if not attempt.finished:
            return "truncated"
        if self._judge is not None:
            return self._by_function(self._judge, attempt)
        answer = answer_in(attempt.text)
        if not answer:
            return "unparseable"
        return "correct" if same_answer(answer, self._answers[attempt.problem.id]) else "wrong"

    def _by_function(self, judge: VerdictFunction, attempt: Attempt) -> Verdict:
        where = f"task.verdict={self._config.verdict}, problem {attempt.problem.id}"
        try:
            said = judge(dict(self._rows[attempt.problem.id]), attempt.text)
        except Exception as error:
            raise WorkError(f"{where}: {type(error).__name__}: {error}") from error
        if isinstance(said, bool):
            return "correct" if said else "wrong"
        for verdict in VERDICTS:
            if said == verdict:
                return verdict
        raise WorkError(f"{where}: returned {said!r}, which is neither true or false nor a verdict")

    def canonical(self, problem: Problem, text: str) -> None:
        """None: nothing is known of the form of solutions."""
