"""Python programs, judged by unit tests. Each program runs in its own sandbox."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.code.checking import CheckCode, Outputs, Tests, judge
from progrpo_cli.tasks.code.extraction import extract_code
from progrpo_cli.tasks.code.formats import read_tests
from progrpo_cli.tasks.code.program import Limits
from progrpo_cli.tasks.code.sandbox import Sandbox
from progrpo_cli.tasks.config import CodeConfig
from progrpo_cli.tasks.data import DatasetProblems, Row


class Code:
    """Problems of a dataset, each with tests."""

    canonical_forms = False

    def __init__(self, config: CodeConfig) -> None:
        """Create the task.

        Raises:
            RequestError: bubblewrap is missing or does not work, and the configuration does not do without it.
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
        """Return the split's problems in the dataset's order.

        Raises:
            RequestError: a row lacks a field or has tests in an unknown format. The message names the row.
        """
        return self._data.problems(split)

    def _read(self, row: Row, identifier: str) -> str:
        """Return the question of a row, with its starter code; store its tests."""
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
        """Return the function under test, if there is one. LiveCodeBench has it in JSON, under ``func_name``."""
        if self._config.fields.entry_point is None:
            return None
        entry = row.value("entry_point")
        if isinstance(entry, str) and entry.lstrip().startswith("{"):
            try:
                entry = json.loads(entry)
            except ValueError as error:
                raise RequestError(f"{row.place}: {self._config.fields.entry_point} is not JSON: {error}") from error
        if isinstance(entry, dict):
            entry = entry.get("func_name")
        return str(entry) if entry else None

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Judge the programs, one per core in parallel."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(threads.map(self._verdict, attempts))

    def _verdict(self, attempt: Attempt) -> Verdict:
        if not attempt.finished:
            return "truncated"
        tests = self._tests[attempt.problem.id]
        source = extract_code(attempt.text, entry=None if isinstance(tests, Outputs) else tests.entry)
        if source is None:
            return "unparseable"
        try:
            return judge(self._sandbox, source, tests, self._limits)
        except (WorkError, OSError, RecursionError) as error:  # our failure, not the program's
            log.warning(f"task {self.name}, problem {attempt.problem.id}: no verdict: {error}")
            return "error"

    def canonical(self, problem: Problem, text: str) -> None:
        """Return None: programs have no canonical form."""
