"""Caps on the answers that a parser may see.

This runs in our own process on arbitrary output of a policy, so it takes linear time and evaluates nothing.
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
"""Nested powers: ``x^{y^z}`` has 2."""
MAX_EXPONENT = 4
"""Digits of an exponent; half as many if the exponent contains a power."""

_OPEN, _CLOSE = "{[(", "}])"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_DIGITS = re.compile(r"\d+")
_EXPONENT = re.compile(r"\^\s*(?:\{\s*[-+]?\s*(\d[\d\s]*)|[-+]?\s*(\d+))")
_POWER_IN_POWER = re.compile(r"\^\{[^{}]*\^")
_FACTORIAL = re.compile(r"(\d+)\s*!|!\s*!")
_COMBINATORIAL = re.compile(r"!|binom|choose|sum|prod|int|gamma", re.IGNORECASE)
_CONSTANTS = frozenset(
    re.findall(r"\\[a-z]+", r"\pi \infty \alpha \beta \gamma \theta \lambda \mu \phi \varphi \omega")
)
"""Commands without an argument: a bracket after one of them begins another factor."""
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
    r"""Whether brackets are at most ``MAX_DEPTH`` deep and powers at most ``MAX_TOWER`` high. They may be unbalanced.

    An exponent is one pair of brackets, a run of digits, a letter, or a command with its arguments. Only a power
    directly after an exponent is nested in it: ``x^2y^2`` is a product, ``x^2^2`` a tower.
    """
    text = answer.replace("**", "^").replace("\\left", "").replace("\\right", "")
    open_brackets: list[tuple[int, bool]] = []  # (height of the exponent that it is, or 0; belongs to a command)
    level = [0]  # the power level of the text inside each open bracket; first, outside of all
    highest = [0]  # the highest power level inside each of them so far
    expected = ended = 0  # the height of the exponent that comes next, and of the one that has just ended
    after_command = False  # whether a bracket that comes next is an argument of the exponent that has just ended
    for token in _TOKEN.findall(text):
        if token == "^":
            expected = max(expected, ended, level[-1]) + 1
            highest[-1] = max(highest[-1], expected)
            ended, after_command = 0, False
            if expected > MAX_TOWER:
                return False
        elif token in _OPEN:
            exponent = expected or (ended if after_command else 0)
            open_brackets.append((exponent, after_command))
            level.append(exponent or level[-1])
            highest.append(exponent)
            expected, ended, after_command = 0, 0, False
            if len(open_brackets) > MAX_DEPTH:
                return False
        elif token in _CLOSE:
            exponent, after_command = open_brackets.pop() if open_brackets else (0, False)
            reached = highest[-1]
            del level[1 + len(open_brackets) :], highest[1 + len(open_brackets) :]
            highest[-1] = max(highest[-1], reached)
            expected, ended = 0, reached if exponent else 0
        elif token == "_":
            expected = expected or ended  # `9^{9}_1^9` is as high as `9^{9}^9`
        elif not (token in "+-" and expected):  # a sign belongs to its exponent
            takes_argument = token.startswith("\\") and token not in _CONSTANTS
            ended, expected, after_command = expected, 0, bool(expected) and takes_argument
    return True


def _digits_of_exponents(powers: str) -> Iterator[int]:
    """Yield the number of leading digits of each exponent."""
    for in_braces, bare in _EXPONENT.findall(powers):
        yield len("".join((in_braces or bare).split()))


def looks_costly(answer: str) -> bool:
    """Whether judging an answer may take long: a large exponent, factorial or binomial, many powers, or a long text.

    This does not change the verdict; costly answers are judged last.
    """
    powers = answer.replace("**", "^")
    if len(answer) > MAX_ANSWER // 4 or powers.count("^") > MAX_POWERS // 2:
        return True
    if any(exponent > 2 for exponent in _digits_of_exponents(powers)):
        return True
    return bool(_COMBINATORIAL.search(answer)) and any(len(digits) > 2 for digits in _DIGITS.findall(answer))
