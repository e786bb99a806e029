"""Decide whether a program passes its tests: a benchmark's own test code, single calls, or the program's output."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from progrpo_cli.errors import WorkError
from progrpo_cli.tasks.base import Verdict
from progrpo_cli.tasks.code import driver
from progrpo_cli.tasks.code.program import LimitReached, Limits, Program
from progrpo_cli.tasks.code.sandbox import Sandbox

PACKAGES = ("numpy",)
"""Packages that contest programs can import besides the standard library, as in the benchmarks' own runners."""
_MAX_STATUS = 1000
"""Bytes of a status message. Messages with values may be longer."""
_WORD = re.compile(r"\S+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
"""Python's Decimal accepts more: digits of other scripts, and ``1_0`` for 10."""
_INTEGERS = re.compile(r"[+-]?[0-9]+ [+-]?[0-9]+")


@dataclass(frozen=True)
class CheckCode:
    """A benchmark's Python tests: a function ``check(candidate)``, as in HumanEval."""

    context: str
    """Python code that the tests may use, e.g. the helper functions of the prompt."""
    tests: str
    entry: str


@dataclass(frozen=True)
class Call:
    """One call with plain values, and the value that it must return."""

    arguments: list[Any]
    expected: Any
    alternatives: tuple[Any, ...] = ()
    """Other accepted values, for data that are ambiguous."""


@dataclass(frozen=True)
class Calls:
    """Calls of one function, or of a method of ``Solution``."""

    entry: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Outputs:
    """Inputs of a program and the outputs that it must print."""

    pairs: tuple[tuple[str, str], ...]


Tests = CheckCode | Calls | Outputs


def judge(sandbox: Sandbox, source: str, tests: Tests, limits: Limits) -> Verdict:
    """Return ``correct`` if all tests pass, ``unparseable`` for invalid Python, ``timeout`` or ``memory`` at a limit.

    Raises:
        WorkError: the sandbox, or the test code in it, failed, so the program was not judged.
    """
    try:
        if isinstance(tests, Outputs):
            return _by_output(sandbox, source, tests, limits)
        if isinstance(tests, Calls):
            return _by_calls(sandbox, source, tests, limits)
        return _by_test_code(sandbox, source, tests, limits)
    except LimitReached as limit:
        return "wrong" if limit.kind == "output" else "memory" if limit.kind == "memory" else "timeout"


def _parse_status(line: bytes | None) -> dict[str, Any]:
    """Parse a status message from a sandbox. A line that is not a JSON object gives an empty message.

    Long lines contain values of the program and are never parsed in this process.
    """
    try:
        message = json.loads(line or b"") if len(line or b"") < _MAX_STATUS else {}
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _by_test_code(sandbox: Sandbox, source: str, tests: CheckCode, limits: Limits) -> Verdict:
    solution_task = {"mode": "calls", "source": source, "context": tests.context, "entry": tests.entry}
    checker_task = {"mode": "tests", "source": tests.tests, "context": tests.context, "entry": tests.entry}
    with sandbox.start(solution_task, limits) as solution:
        if verdict := _startup_failure(solution):
            return verdict
        with sandbox.start(checker_task, limits, packages=("numpy",)) as checker:
            checker.deadline = solution.deadline
            return _relay(solution, checker)


def _by_calls(sandbox: Sandbox, source: str, tests: Calls, limits: Limits) -> Verdict:
    solution_task = {"mode": "calls", "source": source, "entry": tests.entry, "prelude": True}
    calls = [
        {
            "call": driver.encode([call.arguments, {}]),
            "expected": [driver.encode(expected) for expected in (call.expected, *call.alternatives)],
        }
        for call in tests.calls
    ]
    total = limits.seconds_in_all
    end = time.monotonic() + total
    with sandbox.start(solution_task, limits, packages=PACKAGES, seconds=total) as solution:
        solution.deadline = time.monotonic() + limits.seconds
        if verdict := _startup_failure(solution):
            return verdict
        with sandbox.start({"mode": "compare", "calls": calls}, limits, seconds=total) as checker:
            return _relay(solution, checker, seconds=limits.seconds, end=end)


def _startup_failure(solution: Program) -> Verdict | None:
    """Return None if the program is ready for calls, else the verdict."""
    message = _parse_status(solution.read_line())
    if message.get("ready"):
        return None
    return "unparseable" if message.get("unparseable") else _failure(message.get("raised"))


def _relay(solution: Program, checker: Program, seconds: float | None = None, end: float = 0.0) -> Verdict:
    """Relay calls and return values between two programs, without parsing them, and return the verdict.

    Args:
        solution: the policy's program, which answers calls.
        checker: makes the calls and compares the values.
        seconds: limit for each call and for each comparison; None: the programs keep their deadlines.
        end: when the time for all calls together is over.
    """
    checker.companion = solution
    has_answered = False
    while True:
        if seconds is not None:
            checker.deadline = min(time.monotonic() + seconds, end)
        line = checker.read_line()
        if line is None and has_answered:  # the answer made the checker end
            return "wrong"
        if line is None:
            raise WorkError("the process that tests what a policy wrote ended without a result")
        if not line.startswith(b'{"call"'):
            message = _parse_status(line)
            return "correct" if message.get("passed") is True else _failure(message.get("failed"))
        if seconds is not None:
            solution.deadline = checker.deadline = min(time.monotonic() + seconds, end)
        solution.write_line(line)
        if (answer := solution.read_line()) is None:
            return "wrong"
        has_answered = True
        checker.write_line(answer)


def _failure(error: object) -> Verdict:
    return "memory" if error == "MemoryError" else "wrong"


def _by_output(sandbox: Sandbox, source: str, tests: Outputs, limits: Limits) -> Verdict:
    with sandbox.start({"mode": "compile", "source": source}, limits) as compiler:
        if _parse_status(compiler.read_line()).get("unparseable"):
            return "unparseable"
    end = time.monotonic() + limits.seconds_in_all
    for given, expected in tests.pairs:
        if time.monotonic() > end:
            raise LimitReached("time")
        larger = replace(limits, output=max(limits.output, 2 * len(expected.encode("utf-8", "surrogatepass"))))
        task = {"mode": "program", "source": source, "input": given, "prelude": True}
        with sandbox.start(task, larger, packages=PACKAGES) as program:
            printed, status = program.read_all().decode("utf-8", "replace"), program.wait()
            if status == driver.OUT_OF_MEMORY:
                raise LimitReached("memory")
            if not same_output(printed, expected) or status != 0:
                return "wrong"
    return "correct"


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs agree line by line, without outer spaces, or else word by word, with numbers by value.

    Only a line feed ends a line, as in LiveCodeBench's runner. A program may print eight million empty lines, or as
    many words in one line, so this takes linear time and does not copy the texts.
    """
    printed, expected = printed.strip(), expected.strip()
    return printed.count("\n") == expected.count("\n") and all(map(_same_line, _lines(printed), _lines(expected)))


def _lines(text: str) -> Iterator[str]:
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _same_line(printed: str, expected: str) -> bool:
    if printed.strip() == expected.strip():
        return True
    words = zip_longest(_WORD.finditer(printed), _WORD.finditer(expected))
    return all(word and other and _same_word(word[0], other[0]) for word, other in words)


def _same_word(printed: str, expected: str) -> bool:
    if printed == expected:
        return True
    if not all(len(text) <= 100 and _NUMBER.fullmatch(text) for text in (printed, expected)):
        return False
    try:
        value, wanted = Decimal(printed), Decimal(expected)
        if max(abs(value.adjusted()), abs(wanted.adjusted())) >= 400:
            return bool(value == wanted)
        return value == wanted or (not _INTEGERS.fullmatch(f"{printed} {expected}") and driver.is_close(value, wanted))
    except ArithmeticError:
        return False
