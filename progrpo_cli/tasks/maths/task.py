"""Mathematics by exact answer, judged by math-verify with caps on its input and in processes that can be killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.answers import MAX_ANSWER, extract_answer
from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.config import MathsConfig
from progrpo_cli.tasks.data import DatasetProblems, Row
from progrpo_cli.tasks.extras import require
from progrpo_cli.tasks.judging.pool import shared_pool
from progrpo_cli.tasks.maths import guard, normalisation, text_comparison

_CANNOT_BE_READ = "the reference answer cannot be read as mathematics, a word or a few"
_READ_ATTEMPTS = 3
"""Attempts to read a reference before it counts as too slow."""
_JUDGE = "progrpo_cli.tasks.maths.judge"


class Maths:
    """Problems of a dataset, each with one reference answer."""

    canonical_forms = False

    def __init__(self, config: MathsConfig) -> None:
        """Create the task.

        Raises:
            RequestError: math-verify is not installed.
        """
        require("math_verify", "math-verify", config.label)
        self.name = config.label
        self.max_new_tokens = config.max_new_tokens
        self.chat = config.chat
        self._data = DatasetProblems(config, self._read)
        self._tolerance = config.relative_tolerance
        self._golds: dict[str, str] = {}
        self._places: dict[str, str] = {}
        self._text_only: set[str] = set()  # ids of problems whose references may not be parsed

    def problems(self, split: Split) -> list[Problem]:
        """Return the split's problems in the dataset's order.

        Raises:
            RequestError: a row lacks a field, or its reference answer cannot be read. The message names the row.
        """
        problems = self._data.problems(split)
        golds = {p.id: self._golds[p.id] for p in problems if p.id not in self._text_only}
        unchecked = [(name, gold) for name, gold in golds.items() if text_comparison.compare(gold, "0") is None]
        for _ in range(_READ_ATTEMPTS):  # a busy machine is not a reason to refuse a reference
            results = shared_pool(_JUDGE).judge([{"gold": gold} for _, gold in unchecked])
            for (name, gold), result in zip(unchecked, results, strict=True):
                if result not in ("correct", "timeout"):
                    raise RequestError(f"{self._places[name]}: {_CANNOT_BE_READ}: {gold[:80]!r}")
            unchecked = [pair for pair, result in zip(unchecked, results, strict=True) if result == "timeout"]
        for name, gold in unchecked:
            raise RequestError(f"{self._places[name]}: the reference answer takes too long to read: {gold[:80]!r}")
        return problems

    def _read(self, row: Row, identifier: str) -> str:
        """Return the question of a row; store its reference answer."""
        field = row.text("answer")
        if not normalisation.normalise(field[:MAX_ANSWER]):
            raise RequestError(f"{row.place}: an empty reference answer")
        gold = normalisation.extract_reference(field)
        if gold is None:
            raise RequestError(f"{row.place}: {_CANNOT_BE_READ}: {field[:80]!r}")
        self._places[identifier] = row.place
        if not guard.may_be_parsed(gold):
            self._text_only.add(identifier)
            log.warning(
                f"{row.place}: the reference answer is beyond the parser's caps, "
                f"so only the same text is right: {gold[:80]!r}"
            )
        self._golds[identifier] = gold
        return row.text("question")

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Judge the answers that :func:`extract_answer` returns.

        Answers beyond the guard's caps are ``unparseable``, unless they are equal to the reference as texts.
        """
        verdicts: list[Verdict] = []
        options = {"tolerance": self._tolerance} if self._tolerance else {}
        requests: list[tuple[int, dict[str, Any]]] = []
        for attempt in attempts:
            gold, answer = self._golds[attempt.problem.id], extract_answer(attempt.text)
            if not attempt.finished:
                verdicts.append("truncated")
            elif answer is None or len(answer) > MAX_ANSWER:
                verdicts.append("unparseable")
            elif (is_right := self._compare(gold, answer)) is not None:
                verdicts.append("correct" if is_right else "wrong")
            elif not guard.may_be_parsed(answer):
                verdicts.append("unparseable")
            elif attempt.problem.id in self._text_only:
                verdicts.append("wrong")
            else:
                requests.append((len(verdicts), {**options, "gold": gold, "answer": normalisation.normalise(answer)}))
                verdicts.append("timeout")
        costly = {place for place, (_, request) in enumerate(requests) if guard.looks_costly(request["answer"])}
        results = shared_pool(_JUDGE).judge([request for _, request in requests], costly=costly)
        for (i, request), result in zip(requests, results, strict=True):
            if result not in get_args(Verdict):
                log.warning(f"task {self.name}: the reference answer {request['gold']!r} can no longer be read")
                result = "error"
            verdicts[i] = result  # type: ignore[call-overload]
        return verdicts

    def _compare(self, gold: str, answer: str) -> bool | None:
        return text_comparison.compare(gold, normalisation.normalise(answer), self._tolerance)

    def canonical(self, problem: Problem, text: str) -> None:
        """Return None: there is one right answer, and solutions have no canonical form."""
