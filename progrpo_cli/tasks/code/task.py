"""Python programs by unit tests, each in a sandbox of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.code.checking import CheckCode, Outputs, Tests, judge
from progrpo_cli.tasks.code.extraction import code_in
from progrpo_cli.tasks.code.program import Limits
from progrpo_cli.tasks.code.sandbox import Sandbox
from progrpo_cli.tasks.code.shapes import read_tests
from progrpo_cli.tasks.config import CodeConfig
from progrpo_cli.tasks.data import DatasetProblems, Row


class Code:
    """Problems of a dataset, each with tests."""

    canonical_forms = False

    def __init__(self, config: CodeConfig) -> None:
        """Take the task, if there is a sandbox or the risk is accepted.

        Raises:
            RequestError: bubblewrap is missing or does not work.
        """
        self._sandbox = Sandbox(config.sandbox, config.label)
        self._limits = Limits(
            seconds=config.seconds, seconds_in_all=config.seconds_in_all, memory=config.memory_mb << 20
        )
        self.name = config.label
        self.max_new_tokens = config.max_new_tokens
        self.chat = config.chat
        self._config = config
        self._data = DatasetProblems(config, self._read)
        self._tests: dict[str, Tests] = {}

    def problems(self, split: Split) -> list[Problem]:
        """The split's problems in the dataset's order.

        Raises:
            RequestError: a row lacks a field or has tests of an unknown form; names the row.
        """
        return self._data.problems(split)

    def _read(self, row: Row, identifier: str) -> str:
        """The question of a row, with the code to start from; keeps its tests."""
        fields = self._config.fields
        question = row.text("question")
        if self._config.tests == "check":
            self._tests[identifier] = CheckCode(question, row.text("tests"), row.text("entry_point"))
            return question
        packed = [row.value(field) for field in ("tests", "hidden_tests") if getattr(fields, field) is not None]
        self._tests[identifier] = read_tests(row.place, *packed, entry=self._entry(row))
        starter = row.value("starter_code") if fields.starter_code else None
        return f"{question}\n\nStart from this code:\n```python\n{starter}\n```" if starter else question

    def _entry(self, row: Row) -> str | None:
        """The function under test; LiveCodeBench has it in JSON: ``metadata`` with ``func_name``."""
        if self._config.fields.entry_point is None:
            return None
        found = row.value("entry_point")
        if isinstance(found, str) and found.lstrip().startswith("{"):
            try:
                found = json.loads(found)
            except ValueError as error:
                raise RequestError(f"{row.place}: {self._config.fields.entry_point} is not JSON: {error}") from error
        if isinstance(found, dict):
            found = found.get("func_name")
        return str(found) if found else None

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """By the last block of code; as many side by side as there are cores."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(threads.map(self._verdict, attempts))

    def _verdict(self, attempt: Attempt) -> Verdict:
        if not attempt.finished:
            return "truncated"
        tests = self._tests[attempt.problem.id]
        source = code_in(attempt.text, entry=None if isinstance(tests, Outputs) else tests.entry)
        if source is None:
            return "unparseable"
        try:
            return judge(self._sandbox, source, tests, self._limits)
        except (WorkError, OSError, RecursionError) as error:  # ours: nothing is known of the program
            log.warning(f"task {self.name}, problem {attempt.problem.id}: no verdict: {error}")
            return "error"

    def canonical(self, problem: Problem, text: str) -> None:
        """None: programs have no canonical form."""
