"""A user's own problems, with exact answers or a verdict function. See ``docs/own-task.md``."""

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


def extract_answer(text: str) -> str:
    """Return the marked answer (see :mod:`progrpo_cli.tasks.answers`), else the answer in the last non-blank line.

    That is the answer which the line states (``The answer is 5.``), else the whole line. Empty if there is none.
    """
    marked = answers.marked_answer(text)
    if marked is not None:
        return marked
    lines = [line for line in (answers.final_response(text) or "").splitlines() if line.strip()]
    return (answers.stated_answer(lines[-1]) or lines[-1].strip()) if lines else ""


def same_answer(answer: str, expected: str) -> bool:
    """Whether two answers are equal as texts or as decimal numbers."""
    if answer == expected:
        return True
    try:
        return len(answer) < 100 and Decimal(answer) == Decimal(expected)
    except InvalidOperation:
        return False


def verdict_function(path: str) -> VerdictFunction:
    """Import the function ``module:function``. The working directory is searched first.

    Raises:
        RequestError: it cannot be imported, or is not a function.
    """
    name, _, function = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except Exception as error:  # the user's module may raise anything
        raise RequestError(f"task.verdict={path}: cannot import {name}: {type(error).__name__}: {error}") from error
    judge = getattr(module, function, None)
    if not callable(judge):
        raise RequestError(f"task.verdict={path}: no function {function!r} in {name}{nearest(function, vars(module))}")
    return judge  # type: ignore[no-any-return]


class Own:
    """Problems of a user's own file."""

    canonical_forms = False

    def __init__(self, config: OwnConfig) -> None:
        """Create the task and import its verdict function, if it has one.

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
        """Return the split's problems in the file's order.

        Raises:
            RequestError: a line cannot be used. The message names it.
        """
        return self._data.problems(split)

    def _read(self, row: Row, identifier: str) -> str:
        """Return the prompt of a row; store the row and its answer."""
        if self._judge is not None:
            self._rows[identifier] = row.all_values()
        if self._config.fields.answer is not None:
            self._answers[identifier] = row.text("answer").strip()
            if not self._answers[identifier] and self._judge is None:
                raise RequestError(f"{row.place}: an empty answer")
        return row.text("question")

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Judge with the verdict function, or compare answers if there is none.

        Raises:
            WorkError: the function raised, or did not return a verdict. The message names the problem.
        """
        return [self._verdict(attempt) for attempt in attempts]

    def _verdict(self, attempt: Attempt) -> Verdict:
        if not attempt.finished:
            return "truncated"
        if self._judge is not None:
            return self._call_judge(self._judge, attempt)
        answer = extract_answer(attempt.text)
        if not answer:
            return "unparseable"
        return "correct" if same_answer(answer, self._answers[attempt.problem.id]) else "wrong"

    def _call_judge(self, judge: VerdictFunction, attempt: Attempt) -> Verdict:
        where = f"task.verdict={self._config.verdict}, problem {attempt.problem.id}"
        try:
            result = judge(dict(self._rows[attempt.problem.id]), attempt.text)
        except Exception as error:
            raise WorkError(f"{where}: {type(error).__name__}: {error}") from error
        if isinstance(result, bool):
            return "correct" if result else "wrong"
        for verdict in VERDICTS:
            if result == verdict:
                return verdict
        raise WorkError(f"{where}: returned {result!r}, which is neither true or false nor a verdict")

    def canonical(self, problem: Problem, text: str) -> None:
        """Return None: the form of solutions is unknown."""
