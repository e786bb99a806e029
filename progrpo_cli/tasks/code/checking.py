"""Whether a program passes its tests: by calls from a benchmark's own test code, by single calls, or by its output."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from progrpo_cli.tasks.base import Verdict
from progrpo_cli.tasks.code import driver
from progrpo_cli.tasks.code.program import LimitReached, Limits
from progrpo_cli.tasks.code.sandbox import Sandbox

TOLERANCE = Decimal("1e-6")
"""Of floats, as the graders of APPS, TACO and DeepCoder have it; integers are exact."""
PACKAGES = ("numpy",)
"""What programs of contests find besides the standard library, as in the benchmarks' own runners."""
_INTEGERS = re.compile(r"[+-]?\d+ [+-]?\d+")


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
    """``correct`` if all tests pass, ``unparseable`` without valid Python, ``timeout`` beyond time or memory."""
    try:
        if isinstance(tests, Outputs):
            return _by_output(sandbox, source, tests, limits)
        if isinstance(tests, Calls):
            return _by_calls(sandbox, source, tests, limits)
        return _by_test_code(sandbox, source, tests, limits)
    except LimitReached as limit:
        return "wrong" if limit.what == "output" else "memory" if limit.what == "memory" else "timeout"


def _message(line: bytes | None) -> dict[str, Any]:
    """A line from a sandbox, which may hold anything: what is no JSON object is an empty message."""
    try:
        message = json.loads(line or b"")
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _by_test_code(sandbox: Sandbox, source: str, tests: CheckCode, limits: Limits) -> Verdict:
    task = {"mode": "calls", "source": source, "context": tests.context, "entry": tests.entry}
    with sandbox.start(task, limits) as solution:
        first = _message(solution.line())
        if not first.get("ready"):
            return "unparseable" if first.get("unparseable") else "wrong"
        of_tests = {"mode": "tests", "source": tests.tests, "context": tests.context, "entry": tests.entry}
        with sandbox.start(of_tests, limits, packages=("numpy",)) as checker:
            checker.deadline = solution.deadline
            while True:
                said = _message(checker.line())
                if "call" not in said:
                    return "correct" if said.get("passed") is True else "wrong"
                solution.write(said["call"])
                if (line := solution.line()) is None:
                    return "wrong"
                checker.write(_answer(line))


def _by_calls(sandbox: Sandbox, source: str, tests: Calls, limits: Limits) -> Verdict:
    task = {"mode": "calls", "source": source, "entry": tests.entry, "prelude": True}
    ends = time.monotonic() + limits.seconds_in_all
    with sandbox.start(task, limits, packages=PACKAGES, seconds=limits.seconds_in_all) as solution:
        solution.deadline = time.monotonic() + limits.seconds
        first = _message(solution.line())
        if not first.get("ready"):
            return "unparseable" if first.get("unparseable") else "wrong"
        for call in tests.calls:
            solution.deadline = min(time.monotonic() + limits.seconds, ends)
            solution.write(driver.encode([call.arguments, {}]))
            try:
                value = driver.decode(_answer(solution.line())["value"])
            except (KeyError, TypeError, ValueError, IndexError, RecursionError):
                return "wrong"
            if not any(_same(value, expected) for expected in (call.expected, *call.or_else)):
                return "wrong"
    return "correct"


def _answer(line: bytes | None) -> dict[str, Any]:
    """What a call gave; one that ran out of memory is a limit that was reached."""
    message = _message(line)
    if message.get("raised") == "MemoryError":
        raise LimitReached("memory")
    return message


def _same(value: Any, expected: Any) -> bool:
    """Equal plain values; a tuple may stand for a list, which JSON does not tell apart. Floats within ``TOLERANCE``."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(_same(value[key], expected[key]) for key in expected)
    if isinstance(value, bool) != isinstance(expected, bool):
        return False
    if float in (type(value), type(expected)) and {type(value), type(expected)} <= {int, float}:
        return value == expected or (_finite(value) and _finite(expected) and _close(value, expected))
    return bool(value == expected)


def _finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _close(value: Any, expected: Any) -> bool:
    """Whether numbers of which one is a float differ by no more than the graders of these benchmarks let them.

    An integer is expected to that much, whatever its size; of what is no integer it is the share.
    """
    difference, wanted = abs(Decimal(value) - Decimal(expected)), abs(Decimal(expected))
    return difference <= TOLERANCE * (max(Decimal(1), wanted) if wanted % 1 else 1)


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
    """Equal line by line without spaces at the ends of lines; else equal word by word, numbers as such."""
    lines, wanted = ([line.strip() for line in text.strip().splitlines()] for text in (printed, expected))
    if lines == wanted:
        return True
    return len(lines) == len(wanted) and all(map(_same_words, lines, wanted))


def _same_words(line: str, wanted: str) -> bool:
    words, of_wanted = line.split(), wanted.split()
    return len(words) == len(of_wanted) and all(map(_same_word, words, of_wanted))


def _same_word(word: str, wanted: str) -> bool:
    if word == wanted:
        return True
    if len(word) > 100 or len(wanted) > 100:
        return False
    try:
        ours, theirs = Decimal(word), Decimal(wanted)
        if not (ours.is_finite() and theirs.is_finite() and max(abs(ours.adjusted()), abs(theirs.adjusted())) < 400):
            return bool(ours == theirs)
        return ours == theirs or (not _INTEGERS.fullmatch(f"{word} {wanted}") and _close(ours, theirs))
    except (InvalidOperation, ArithmeticError):
        return False
