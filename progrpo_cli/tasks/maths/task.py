"""Mathematics by exact answer: math-verify behind caps, in processes that can be killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.config import MathsConfig
from progrpo_cli.tasks.data import DatasetProblems, Row
from progrpo_cli.tasks.extras import require
from progrpo_cli.tasks.judging.pool import shared_pool
from progrpo_cli.tasks.maths import guard

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
        self._golds: dict[str, str] = {}
        self._as_text: set[str] = set()  # problems whose references no parser may see

    def problems(self, split: Split) -> list[Problem]:
        """The split's problems in the dataset's order.

        Raises:
            RequestError: a row lacks a field, or its reference answer cannot be read; names the row.
        """
        problems = self._data.problems(split)
        golds = {p.id: self._golds[p.id] for p in problems if p.id not in self._as_text}
        unsure = [(name, gold) for name, gold in golds.items() if guard.verdict_without_parsing(gold, "0") is None]
        checked = shared_pool(_JUDGE).judge([{"gold": gold} for _, gold in unsure])
        for (name, gold), answer in zip(unsure, checked, strict=True):
            if answer != "correct":
                raise RequestError(f"task {self.name}: the reference answer of problem {name} cannot be read: {gold!r}")
        return problems

    def _read(self, row: Row, identifier: str) -> str:
        """The question of a row; keeps its answer."""
        gold = guard.normal(row.text("answer"))
        if not gold:
            raise RequestError(f"{row.place}: an empty reference answer")
        if not guard.may_be_parsed(gold):
            self._as_text.add(identifier)
            log.warning(
                f"{row.place}: the reference answer is beyond the caps of the parser, "
                f"and only the same text is right: {gold[:80]!r}"
            )
        self._golds[identifier] = gold
        return row.text("question")

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """By the last box, else by the last stated answer; what is beyond the caps of the guard is unparseable.

        The text of the reference itself is right, whatever the caps say of it.
        """
        verdicts: list[Verdict] = []
        asked: list[tuple[int, dict[str, str]]] = []
        for attempt in attempts:
            gold, answer = self._golds[attempt.problem.id], guard.answer_in(attempt.text)
            if not attempt.finished:
                verdicts.append("truncated")
            elif answer is None:
                verdicts.append("unparseable")
            elif (known := guard.verdict_without_parsing(gold, guard.normal(answer))) is not None:
                verdicts.append("correct" if known else "wrong")
            elif not guard.may_be_parsed(answer):
                verdicts.append("unparseable")
            elif attempt.problem.id in self._as_text:
                verdicts.append("wrong")
            else:
                asked.append((len(verdicts), {"gold": gold, "answer": guard.normal(answer)}))
                verdicts.append("timeout")
        costly = {place for place, (_, request) in enumerate(asked) if guard.looks_costly(request["answer"])}
        judged = shared_pool(_JUDGE).judge([request for _, request in asked], costly=costly)
        for (i, request), verdict in zip(asked, judged, strict=True):
            if verdict not in get_args(Verdict):
                log.warning(f"task {self.name}: the reference answer {request['gold']!r} cannot be read any more")
                verdict = "error"
            verdicts[i] = verdict  # type: ignore[call-overload]
        return verdicts

    def canonical(self, problem: Problem, text: str) -> None:
        """None: there is one right answer, and ways to it have no canonical form."""
