"""Whether a parser may see an answer. Linear in the length of the text.

Everything here runs in our own process on whatever a policy wrote, so it searches and counts, and computes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from progrpo_cli.tasks.answers import MAX_ANSWER

MAX_DIGITS = 60
"""Digits in a row."""
MAX_DEPTH = 20
"""Nesting of brackets."""
MAX_POWERS = 12
"""Powers in one answer."""
MAX_TOWER = 2
"""Powers above one another: ``x^{y^z}`` is 2."""
MAX_EXPONENT = 4
"""Digits of an exponent; half as many where a power stands in a power."""

_OPEN, _CLOSE = "{[(", "}])"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_DIGITS = re.compile(r"\d+")
_EXPONENT = re.compile(r"\^\s*(?:\{\s*[-+]?\s*(\d[\d\s]*)|[-+]?\s*(\d+))")
_POWER_IN_POWER = re.compile(r"\^\{[^{}]*\^")
_FACTORIAL = re.compile(r"(\d+)\s*!|!\s*!")
_COMBINATORIAL = re.compile(r"!|binom|choose|sum|prod|int|gamma", re.IGNORECASE)
_TOKEN = re.compile(r"\\[A-Za-z]+|\d+(?:\.\d+)?|\S")


def may_be_parsed(answer: str) -> bool:
    """Whether an answer is within the caps on length, digits, nesting and powers, and free of control characters."""
    if len(answer) > MAX_ANSWER or _UNPRINTABLE.search(answer):
        return False
    if any(len(run) > MAX_DIGITS for run in _DIGITS.findall(answer)):
        return False
    if answer.count("^") + answer.count("**") > MAX_POWERS or not _nesting_is_shallow(answer):
        return False
    powers = answer.replace("**", "^")
    digits = MAX_EXPONENT // 2 if _POWER_IN_POWER.search(powers.replace(" ", "")) else MAX_EXPONENT
    if any(exponent > digits for exponent in _digits_of_exponents(powers)):
        return False
    return not any(digits == "" or len(digits) > MAX_EXPONENT - 1 for digits in _FACTORIAL.findall(answer))


def _nesting_is_shallow(answer: str) -> bool:
    r"""Brackets at most ``MAX_DEPTH`` deep and powers at most ``MAX_TOWER`` high, whether or not they are balanced.

    An exponent is one pair of brackets, the digits in a row, or one letter or command, whose arguments belong to it.
    Only a power right after it stands above it: ``x^2y^2`` is a product of two, ``x^2^2`` a tower.
    """
    text = answer.replace("**", "^").replace("\\left", "").replace("\\right", "")
    closes: list[tuple[int, bool]] = []  # of each open bracket: the exponent it is (or 0), whether it is a command's
    inside = [0]  # how many powers the text in each of them, and outside of all, stands in
    highest = [0]  # the highest power in it so far
    awaited = ended = 0  # the height of the exponent that comes next, and of the one that has just ended
    of_command = False  # whether a bracket that comes next still belongs to that one
    for token in _TOKEN.findall(text):
        if token == "^":
            awaited = max(awaited, ended, inside[-1]) + 1
            highest[-1] = max(highest[-1], awaited)
            ended, of_command = 0, False
            if awaited > MAX_TOWER:
                return False
        elif token in _OPEN:
            exponent = awaited or (ended if of_command else 0)
            closes.append((exponent, of_command))
            inside.append(exponent or inside[-1])
            highest.append(exponent)
            awaited, ended, of_command = 0, 0, False
            if len(closes) > MAX_DEPTH:
                return False
        elif token in _CLOSE:
            exponent, of_command = closes.pop() if closes else (0, False)
            reached = highest[-1]
            del inside[1 + len(closes) :], highest[1 + len(closes) :]
            highest[-1] = max(highest[-1], reached)
            awaited, ended = 0, reached if exponent else 0
        elif token == "_":
            awaited = awaited or ended  # a subscript parts a power from its exponent in nothing but looks
        elif not (token in "+-" and awaited):  # a sign belongs to its exponent
            ended, awaited, of_command = awaited, 0, bool(awaited) and token.startswith("\\")
    return True


def _digits_of_exponents(powers: str) -> Iterator[int]:
    """How many digits each exponent begins with."""
    for inside, bare in _EXPONENT.findall(powers):
        yield len("".join((inside or bare).split()))


def looks_costly(answer: str) -> bool:
    """Whether judging an answer may take long: a large exponent, factorial or binomial, many powers, or much text.

    It decides no verdict, only that ordinary answers need not wait for this one.
    """
    powers = answer.replace("**", "^")
    if len(answer) > MAX_ANSWER // 4 or powers.count("^") > MAX_POWERS // 2:
        return True
    if any(exponent > 2 for exponent in _digits_of_exponents(powers)):
        return True
    return bool(_COMBINATORIAL.search(answer)) and any(len(digits) > 2 for digits in _DIGITS.findall(answer))
