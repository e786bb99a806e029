"""Mathematics by exact answer: math-verify behind caps, in processes that can be killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.data import DatasetProblems, Row
from progrpo_cli.tasks.extras import require
from progrpo_cli.tasks.judging.pool import shared_pool
from progrpo_cli.tasks.maths import guard
from progrpo_cli.tasks.sections import MathsConfig

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

    def problems(self, split: Split) -> list[Problem]:
        """The split's problems in the dataset's order.

        Raises:
            RequestError: a row lacks a field, or its reference answer cannot be read; names the row.
        """
        problems = self._data.problems(split)
        golds = [self._golds[problem.id] for problem in problems]
        unsure = [i for i, gold in enumerate(golds) if guard.verdict_without_parsing(gold, "0") is None]
        checked = shared_pool(_JUDGE).judge([{"gold": golds[i]} for i in unsure])
        for i, answer in zip(unsure, checked, strict=True):
            if answer != "correct":
                raise RequestError(
                    f"task {self.name}: the reference answer of problem {problems[i].id} cannot be read: {golds[i]!r}"
                )
        return problems

    def _read(self, row: Row, identifier: str) -> str:
        """The question of a row; keeps its answer."""
        gold = guard.normal(row.text("answer"))
        if not gold or not guard.may_be_parsed(gold):
            raise RequestError(f"{row.place}: the reference answer cannot be read: {gold[:80]!r}")
        self._golds[identifier] = gold
        return row.text("question")

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """By the last box, else by the last stated answer; what is beyond the caps of the guard is unparseable."""
        verdicts: list[Verdict] = []
        asked: list[tuple[int, dict[str, str]]] = []
        for attempt in attempts:
            gold, answer = self._golds[attempt.problem.id], guard.answer_in(attempt.text)
            if not attempt.finished:
                verdicts.append("truncated")
            elif answer is None or not guard.may_be_parsed(answer):
                verdicts.append("unparseable")
            elif (known := guard.verdict_without_parsing(gold, guard.normal(answer))) is not None:
                verdicts.append("correct" if known else "wrong")
            else:
                asked.append((len(verdicts), {"gold": gold, "answer": guard.normal(answer)}))
                verdicts.append("timeout")
        costly = {place for place, (_, request) in enumerate(asked) if guard.looks_costly(request["answer"])}
        judged = shared_pool(_JUDGE).judge([request for _, request in asked], costly=costly)
        for (i, request), verdict in zip(asked, judged, strict=True):
            if verdict not in get_args(Verdict):
                raise WorkError(f"task {self.name}: the reference answer {request['gold']!r} cannot be read any more")
            verdicts[i] = verdict  # type: ignore[call-overload]
        return verdicts

    def canonical(self, problem: Problem, text: str) -> None:
        """None: there is one right answer, and ways to it have no canonical form."""
