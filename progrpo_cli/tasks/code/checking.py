"""Whether a program passes its tests: by calls from a benchmark's own test code, by single calls, or by its output."""

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
"""What programs of contests find besides the standard library, as in the benchmarks' own runners."""
_SHORT = 1000
"""Bytes of the messages that say how something went; those that carry values may be longer."""
_WORD = re.compile(r"\S+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
"""Python's Decimal takes more: digits of other scripts, and ``1_0`` for 10."""
_INTEGERS = re.compile(r"[+-]?[0-9]+ [+-]?[0-9]+")


@dataclass(frozen=True)
class CheckCode:
    """A benchmark's Python tests: ``check(candidate)`` in the manner of HumanEval."""

    context: str
    """Python that the tests may use, e.g. the helper functions of the prompt."""
    tests: str
    entry: str


@dataclass(frozen=True)
class Call:
    """One call with plain values and the value it has to return."""

    arguments: list[Any]
    expected: Any
    or_else: tuple[Any, ...] = ()
    """Other values that are as good, where the data do not say which is meant."""


@dataclass(frozen=True)
class Calls:
    """Calls of one function, or of a method of ``Solution``."""

    entry: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Outputs:
    """What the program has to print for what it reads."""

    pairs: tuple[tuple[str, str], ...]


Tests = CheckCode | Calls | Outputs


def judge(sandbox: Sandbox, source: str, tests: Tests, limits: Limits) -> Verdict:
    """``correct`` if all tests pass, ``unparseable`` without valid Python, ``timeout`` and ``memory`` beyond a limit.

    Raises:
        WorkError: the sandbox, or what tests the program in it, failed: nothing is known of the program.
    """
    try:
        if isinstance(tests, Outputs):
            return _by_output(sandbox, source, tests, limits)
        if isinstance(tests, Calls):
            return _by_calls(sandbox, source, tests, limits)
        return _by_test_code(sandbox, source, tests, limits)
    except LimitReached as limit:
        return "wrong" if limit.what == "output" else "memory" if limit.what == "memory" else "timeout"


def _message(line: bytes | None) -> dict[str, Any]:
    """A short line from a sandbox, which may hold anything: what is no JSON object is an empty message.

    Long lines hold values, which are never rebuilt in this process.
    """
    try:
        message = json.loads(line or b"") if len(line or b"") < _SHORT else {}
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _by_test_code(sandbox: Sandbox, source: str, tests: CheckCode, limits: Limits) -> Verdict:
    of_solution = {"mode": "calls", "source": source, "context": tests.context, "entry": tests.entry}
    of_tests = {"mode": "tests", "source": tests.tests, "context": tests.context, "entry": tests.entry}
    with sandbox.start(of_solution, limits) as solution:
        if verdict := _not_ready(solution):
            return verdict
        with sandbox.start(of_tests, limits, packages=("numpy",)) as checker:
            checker.deadline = solution.deadline
            return _told(solution, checker)


def _by_calls(sandbox: Sandbox, source: str, tests: Calls, limits: Limits) -> Verdict:
    of_solution = {"mode": "calls", "source": source, "entry": tests.entry, "prelude": True}
    calls = [
        {
            "call": driver.encode([call.arguments, {}]),
            "expected": [driver.encode(expected) for expected in (call.expected, *call.or_else)],
        }
        for call in tests.calls
    ]
    whole = limits.seconds_in_all
    ends = time.monotonic() + whole
    with sandbox.start(of_solution, limits, packages=PACKAGES, seconds=whole) as solution:
        solution.deadline = time.monotonic() + limits.seconds
        if verdict := _not_ready(solution):
            return verdict
        with sandbox.start({"mode": "compare", "calls": calls}, limits, seconds=whole) as checker:
            return _told(solution, checker, each=limits.seconds, ends=ends)


def _not_ready(solution: Program) -> Verdict | None:
    first = _message(solution.line())
    if first.get("ready"):
        return None
    return "unparseable" if first.get("unparseable") else _failed(first.get("raised"))


def _told(solution: Program, checker: Program, each: float | None = None, ends: float = 0.0) -> Verdict:
    """The verdict of a program that makes calls and judges on one that answers them. We carry their lines, unread.

    Args:
        solution: answers calls.
        checker: makes them.
        each: seconds for each call, and for looking at what came back; None: the deadlines that they have.
        ends: when there is no more time for any.
    """
    checker.beside = solution
    was_answered = False
    while True:
        if each is not None:
            checker.deadline = min(time.monotonic() + each, ends)
        said = checker.line()
        if said is None and was_answered:  # by what ended the checker
            return "wrong"
        if said is None:
            raise WorkError("the process that tests what a policy wrote ended without a word")
        if not said.startswith(b'{"call"'):
            message = _message(said)
            return "correct" if message.get("passed") is True else _failed(message.get("failed"))
        if each is not None:
            solution.deadline = checker.deadline = min(time.monotonic() + each, ends)
        solution.forward(said)
        if (answer := solution.line()) is None:
            return "wrong"
        was_answered = True
        checker.forward(answer)


def _failed(error: object) -> Verdict:
    return "memory" if error == "MemoryError" else "wrong"


def _by_output(sandbox: Sandbox, source: str, tests: Outputs, limits: Limits) -> Verdict:
    with sandbox.start({"mode": "compile", "source": source}, limits) as compiler:
        if _message(compiler.line()).get("unparseable"):
            return "unparseable"
    ends = time.monotonic() + limits.seconds_in_all
    for given, expected in tests.pairs:
        if time.monotonic() > ends:
            raise LimitReached("time")
        room = replace(limits, output=max(limits.output, 2 * len(expected.encode("utf-8", "surrogatepass"))))
        task = {"mode": "program", "source": source, "input": given, "prelude": True}
        with sandbox.start(task, room, packages=PACKAGES) as program:
            printed, status = program.everything().decode("utf-8", "replace"), program.status()
            if status == driver.OUT_OF_MEMORY:
                raise LimitReached("memory")
            if not same_output(printed, expected) or status != 0:
                return "wrong"
    return "correct"


def same_output(printed: str, expected: str) -> bool:
    """Equal line by line without spaces at the ends of lines; else equal word by word, numbers as such.

    As LiveCodeBench's runner has it only a line feed ends a line. Linear, and in no more memory than the texts: a
    program may print eight million empty lines, or as many words in one.
    """
    printed, expected = printed.strip(), expected.strip()
    return printed.count("\n") == expected.count("\n") and all(map(_same_line, _lines(printed), _lines(expected)))


def _lines(text: str) -> Iterator[str]:
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _same_line(line: str, wanted: str) -> bool:
    if line.strip() == wanted.strip():
        return True
    words = zip_longest(_WORD.finditer(line), _WORD.finditer(wanted))
    return all(word and other and _same_word(word[0], other[0]) for word, other in words)


def _same_word(word: str, wanted: str) -> bool:
    if word == wanted:
        return True
    if not all(len(text) <= 100 and _NUMBER.fullmatch(text) for text in (word, wanted)):
        return False
    try:
        ours, theirs = Decimal(word), Decimal(wanted)
        if max(abs(ours.adjusted()), abs(theirs.adjusted())) >= 400:
            return bool(ours == theirs)
        return ours == theirs or (not _INTEGERS.fullmatch(f"{word} {wanted}") and driver.close(ours, theirs))
    except ArithmeticError:
        return False
