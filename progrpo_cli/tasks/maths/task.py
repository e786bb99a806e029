"""Mathematics by exact answer: math-verify behind caps, in processes that can be killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.answers import MAX_ANSWER, answer_in
from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.config import MathsConfig
from progrpo_cli.tasks.data import DatasetProblems, Row
from progrpo_cli.tasks.extras import require
from progrpo_cli.tasks.judging.pool import shared_pool
from progrpo_cli.tasks.maths import guard, known, normal

_CANNOT_BE_READ = "the reference answer cannot be read as mathematics, a word or a few"
_TIMES = 3
"""How often a reference is read that ran out of time."""
_JUDGE = "progrpo_cli.tasks.maths.judge"


class Maths:
    """Problems of a dataset, each with one reference answer."""

    canonical_forms = False

    def __init__(self, config: MathsConfig) -> None:
        """Take the task; its extra has to be installed.

        Raises:
            RequestError: math-verify is missing.
        """
        require("math_verify", "math-verify", config.label)
        self.name = config.label
        self.max_new_tokens = config.max_new_tokens
        self.chat = config.chat
        self._data = DatasetProblems(config, self._read)
        self._tolerance = config.relative_tolerance
        self._golds: dict[str, str] = {}
        self._places: dict[str, str] = {}
        self._as_text: set[str] = set()  # problems whose references no parser may see

    def problems(self, split: Split) -> list[Problem]:
        """The split's problems in the dataset's order.

        Raises:
            RequestError: a row lacks a field, or its reference answer cannot be read; names the row.
        """
        problems = self._data.problems(split)
        golds = {p.id: self._golds[p.id] for p in problems if p.id not in self._as_text}
        unsure = [(name, gold) for name, gold in golds.items() if known.verdict_without_parsing(gold, "0") is None]
        for _ in range(_TIMES):  # a machine that is busy is no reason to refuse a reference
            checked = shared_pool(_JUDGE).judge([{"gold": gold} for _, gold in unsure])
            for (name, gold), answer in zip(unsure, checked, strict=True):
                if answer not in ("correct", "timeout"):
                    raise RequestError(f"{self._places[name]}: {_CANNOT_BE_READ}: {gold[:80]!r}")
            unsure = [asked for asked, answer in zip(unsure, checked, strict=True) if answer == "timeout"]
        for name, gold in unsure:
            raise RequestError(f"{self._places[name]}: the reference answer takes too long to read: {gold[:80]!r}")
        return problems

    def _read(self, row: Row, identifier: str) -> str:
        """The question of a row; keeps its answer."""
        field = row.text("answer")
        if not normal.normal(field[:MAX_ANSWER]):
            raise RequestError(f"{row.place}: an empty reference answer")
        gold = normal.reference_in(field)
        if gold is None:
            raise RequestError(f"{row.place}: {_CANNOT_BE_READ}: {field[:80]!r}")
        self._places[identifier] = row.place
        if not guard.may_be_parsed(gold):
            self._as_text.add(identifier)
            log.warning(
                f"{row.place}: the reference answer is beyond the caps of the parser, "
                f"and only the same text is right: {gold[:80]!r}"
            )
        self._golds[identifier] = gold
        return row.text("question")

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """By the answer that :func:`answer_in` finds; what is beyond the caps of the guard is unparseable.

        The text of the reference itself is right, whatever the caps say of it.
        """
        verdicts: list[Verdict] = []
        options = {"tolerance": self._tolerance} if self._tolerance else {}
        asked: list[tuple[int, dict[str, Any]]] = []
        for attempt in attempts:
            gold, answer = self._golds[attempt.problem.id], answer_in(attempt.text)
            if not attempt.finished:
                verdicts.append("truncated")
            elif answer is None or len(answer) > MAX_ANSWER:
                verdicts.append("unparseable")
            elif (is_right := self._known(gold, answer)) is not None:
                verdicts.append("correct" if is_right else "wrong")
            elif not guard.may_be_parsed(answer):
                verdicts.append("unparseable")
            elif attempt.problem.id in self._as_text:
                verdicts.append("wrong")
            else:
                asked.append((len(verdicts), {**options, "gold": gold, "answer": normal.normal(answer)}))
                verdicts.append("timeout")
        costly = {place for place, (_, request) in enumerate(asked) if guard.looks_costly(request["answer"])}
        judged = shared_pool(_JUDGE).judge([request for _, request in asked], costly=costly)
        for (i, request), verdict in zip(asked, judged, strict=True):
            if verdict not in get_args(Verdict):
                log.warning(f"task {self.name}: the reference answer {request['gold']!r} cannot be read any more")
                verdict = "error"
            verdicts[i] = verdict  # type: ignore[call-overload]
        return verdicts

    def _known(self, gold: str, answer: str) -> bool | None:
        return known.verdict_without_parsing(gold, normal.normal(answer), self._tolerance)

    def canonical(self, problem: Problem, text: str) -> None:
        """None: there is one right answer, and ways to it have no canonical form."""
