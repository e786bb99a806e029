"""Compare answers without a parser: texts, numbers in a base, and plain numbers with units or per cent."""

from __future__ import annotations

import re
from fractions import Fraction

from progrpo_cli.tasks.maths.normalisation import (
    has_per_cent,
    is_text,
    parse_base,
    parse_number,
    plain_words,
    remove_per_cent,
    strip_wrapping,
)

TOLERANCE = Fraction(1, 10**6)
"""Relative difference allowed between a decimal and a number without a finite decimal, such as 1/3 or a root."""

_UNIT = re.compile(
    r"(?P<number>.*[\d})])(?:\s|\\,|\\ |~)*(?:\\(?:text|mathrm|textrm|mbox)\s?\{\s*(?P<text>[^{}\d]{1,60})\}"
    r"|(?<=[\d\s])(?P<plain>"
    r"[A-Za-zµμ]{2,20}(?:[\s/·-][A-Za-zµμ]{1,20}){0,4}|[mslghLNJWVK](?:/[A-Za-z]{1,5})?))(?:\s?\^\s?\{?\d\}?)?"
)
_NOT_UNITS = frozenset(
    re.findall(
        r"\w+",
        "million billion trillion thousand hundred dozen half quarter third times mod or and to plus minus not pi "
        "if when sin cos tan log ln exp sqrt between except than over under less more about",
    )
)
_TEXT = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mbox)\s?\{([^{}]*)\}")
_CHANGES_MEANING = frozenset(
    re.findall(
        r"\w+",
        "million billion trillion thousand hundred dozen mod plus minus not never neither nor cannot except without "
        "wrong incorrect false undefined",
    )
)
_UNIT_NAMES = {
    name: names.split()[0]
    for names in (
        "inch inches in", "cm centimeter centimeters centimetre centimetres",
        "mm millimeter millimeters", "km kilometer kilometers",
        "m meter meters metre metres", "ft foot feet", "yard yards", "mile miles",
        "h hour hours hr hrs", "minute minutes min mins",
        "s second seconds sec", "day days", "week weeks", "month months", "year years", "dollar dollars", "cent cents",
        "degree degrees", "radian radians", "g gram grams", "kg kilogram kilograms", "pound pounds",
        "liter liters litre litres l",
    )
    for name in names.split()
}  # fmt: skip
"""Maps each name of a unit to the unit's first name. Numbers with different units are not equal."""


def compare(gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
    """Whether an answer is right, or None if that cannot be decided without a parser.

    Args:
        gold: the normalised reference.
        answer: the normalised answer.
        tolerance: the relative tolerance of numbers, if the benchmark has one.
    """
    if gold == answer:
        return True
    if is_text(gold):
        return plain_words(gold) == plain_words(answer)
    if base := parse_base(gold):
        return answer.lower() == base[0] or parse_base(answer) == base
    if _has_other_meaning(gold, answer):
        return False
    if has_per_cent(gold) or has_per_cent(answer):
        return _compare_per_cents(gold, answer, tolerance)
    expected, gold_text = parse_number(gold), gold
    if expected is None and (plain := strip_unit(gold)) is not None:
        gold_text, expected = plain, parse_number(plain)
    value, answer_text = parse_number(answer), answer
    if expected is not None and value is None and (plain := strip_unit(answer)) is not None:
        if _unit_of(gold) not in (None, _unit_of(answer) or _unit_of(gold)):
            return False
        answer_text, value = plain, parse_number(plain)
    if expected is None or value is None:
        return None
    return same_number(expected, value, tolerance, is_decimal(gold_text) != is_decimal(answer_text))


def _has_other_meaning(gold: str, answer: str) -> bool:
    """Whether an answer has a part that math-verify drops, although it changes the meaning.

    These are a base (``2_3`` for 2) and words (``5\\text{ not}`` or ``5\\text{ million}`` for 5).
    """
    base = parse_base(answer)
    if base is not None and base[1] != "10" and parse_number(gold) is not None:
        return True
    return bool((_words_in_text(answer) - _words_in_text(gold)) & _CHANGES_MEANING)


def _words_in_text(answer: str) -> set[str]:
    return {word for text in _TEXT.findall(answer) for word in text.lower().split()}


def same_number(gold: Fraction, answer: Fraction, tolerance: float = 0.0, one_is_decimal: bool = False) -> bool:
    """Whether two numbers are equal: exactly, or within ``tolerance``.

    If only one is written as a decimal and one has no finite decimal, ``TOLERANCE`` is allowed too.
    """
    if gold == answer:
        return True
    allowed = Fraction(tolerance)
    if one_is_decimal and not (_is_finite_decimal(gold) and _is_finite_decimal(answer)):
        allowed = max(allowed, TOLERANCE)
    return abs(answer - gold) <= allowed * abs(gold)


def is_decimal(text: str) -> bool:
    """Whether a number is written with a decimal point."""
    return "." in text


def _is_finite_decimal(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _compare_per_cents(gold: str, answer: str, tolerance: float) -> bool | None:
    """A per-cent sign means a hundredth. An answer without one may also repeat the number of a reference with one."""
    expected, value = (parse_number(strip_wrapping(remove_per_cent(text))) for text in (gold, answer))
    if expected is None or value is None:
        return None
    if has_per_cent(gold) and not has_per_cent(answer):
        return same_number(expected, value, tolerance) or same_number(expected / 100, value, tolerance)
    return same_number(expected if has_per_cent(gold) else expected * 100, value, tolerance)


def strip_unit(text: str) -> str | None:
    """Return the number before a unit (``5 cm``, ``3.5\\text{ metres}``), or None if no unit ends the answer."""
    unit = _UNIT.fullmatch(text)
    if unit is None or set(re.findall(r"[a-z]+", (unit["text"] or unit["plain"]).lower())) & _NOT_UNITS:
        return None
    plain = unit["number"].strip()
    return plain if parse_number(plain) is not None else None


def _unit_of(text: str) -> str | None:
    """Return the first name of the unit after a number: ``inch`` for ``inches``. None if no known unit is there."""
    unit = _UNIT.fullmatch(text)
    return _UNIT_NAMES.get((unit["text"] or unit["plain"]).strip().lower()) if unit else None
