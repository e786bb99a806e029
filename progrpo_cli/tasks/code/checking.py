"""Whether a program passes its tests: by calls from a benchmark's own test code, by single calls, or by its output."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from progrpo_cli.tasks.base import Verdict
from progrpo_cli.tasks.code import driver
from progrpo_cli.tasks.code.program import LimitReached, Limits
from progrpo_cli.tasks.code.sandbox import Sandbox


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
    task = {"mode": "calls", "source": source, "entry": tests.entry, "method": False}
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
                checker.write(_message(line))


def _by_calls(sandbox: Sandbox, source: str, tests: Calls, limits: Limits) -> Verdict:
    method = "class Solution" in source
    task = {"mode": "calls", "source": source, "entry": tests.entry, "method": method, "prelude": True}
    with sandbox.start(task, limits) as solution:
        first = _message(solution.line())
        if not first.get("ready"):
            return "unparseable" if first.get("unparseable") else "wrong"
        for call in tests.calls:
            solution.write(driver.encode([call.arguments, {}]))
            try:
                value = driver.decode(_message(solution.line())["value"])
            except (KeyError, TypeError, ValueError, IndexError, RecursionError):
                return "wrong"
            if not any(_same(value, expected) for expected in (call.expected, *call.or_else)):
                return "wrong"
    return "correct"


def _same(value: Any, expected: Any) -> bool:
    """Equal plain values; a tuple may stand for a list, which JSON does not tell apart."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_same, value, expected))
    return bool(value == expected) and isinstance(value, bool) == isinstance(expected, bool)


def _by_output(sandbox: Sandbox, source: str, tests: Outputs, limits: Limits) -> Verdict:
    with sandbox.start({"mode": "compile", "source": source}, limits) as compiler:
        if _message(compiler.line()).get("unparseable"):
            return "unparseable"
    for given, expected in tests.pairs:
        room = replace(limits, output=max(limits.output, 2 * len(expected.encode("utf-8", "surrogatepass"))))
        task = {"mode": "program", "source": source, "input": given, "prelude": True}
        with sandbox.start(task, room) as program:
            printed = program.everything().decode("utf-8", "replace")
            if not same_output(printed, expected) or program.status() != 0:
                return "wrong"
    return "correct"


def same_output(printed: str, expected: str) -> bool:
    """Equal line by line without spaces at the ends of lines; else equal word by word, numbers as decimals."""
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
    try:
        return len(word) < 100 and Decimal(word) == Decimal(wanted)
    except InvalidOperation:
        return False


def code_in(text: str) -> str | None:
    """The last block between ``` fences, else what follows an open fence, else the text; None where that is blank."""
    parts = text.split("```")
    if len(parts) == 1:
        code = text
    else:
        block = parts[1] if len(parts) == 2 else parts[-2] if len(parts) % 2 else parts[-3]
        language, newline, body = block.partition("\n")
        code = body if newline and language.strip().lower() in ("", "python", "python3", "py") else block
    return code if code.strip() else None
