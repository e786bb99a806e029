"""What is known of an answer without a parser: texts, bases, and plain numbers with units or per cent."""

from __future__ import annotations

import re
from fractions import Fraction

from progrpo_cli.tasks.maths.normal import as_text, as_unit, bare, based, has_per_cent, is_text, number

TOLERANCE = Fraction(1, 10**6)
"""Relative, of a decimal against what has no finite decimal: a third, a root."""

_UNIT = re.compile(
    r"(?P<number>.*[\d})])(?:\s|\\,|\\ |~)*(?:\\(?:text|mathrm|textrm|mbox)\s?\{\s*(?P<text>[^{}\d]{1,60})\}"
    r"|(?<=[\d\s])(?P<plain>"
    r"[A-Za-zµμ]{2,20}(?:[\s/·-][A-Za-zµμ]{1,20}){0,4}|[mslghLNJWVK](?:/[A-Za-z]{1,5})?))(?:\s?\^\s?\{?\d\}?)?"
)
_NO_UNITS = frozenset(
    re.findall(
        r"\w+",
        "million billion trillion thousand hundred dozen half quarter third times mod or and to plus minus not pi "
        "if when sin cos tan log ln exp sqrt between except than over under less more about",
    )
)
_KINDS = {
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
"""Units that are not each other: a number with one is not a reference with another."""


def verdict_without_parsing(gold: str, answer: str, tolerance: float = 0.0) -> bool | None:
    """What is known without a parser: texts, numbers, bases, units, per cent; None where that does not decide it.

    Args:
        gold: the reference, normal.
        answer: normal, too.
        tolerance: relative, of numbers, if the benchmark has one.
    """
    if gold == answer:
        return True
    if is_text(gold):
        return as_text(gold) == as_text(answer)
    if base := based(gold):
        return answer.lower() == base[0] or based(answer) == base
    if has_per_cent(gold) or has_per_cent(answer):
        return _of_per_cents(gold, answer, tolerance)
    expected, bare = number(gold), gold
    if expected is None and (without := without_unit(gold)) is not None:
        bare, expected = without, number(without)
    found, written = number(answer), answer
    if expected is not None and found is None and (without := without_unit(answer)) is not None:
        if _unit_of(gold) not in (None, _unit_of(answer) or _unit_of(gold)):
            return False
        written, found = without, number(without)
    if expected is None or found is None:
        return None
    return same_number(expected, found, tolerance, is_decimal(bare) != is_decimal(written))


def same_number(gold: Fraction, answer: Fraction, tolerance: float = 0.0, one_is_decimal: bool = False) -> bool:
    """Exactly equal; within the tolerances where one asks for it, or where a decimal stands for an endless one."""
    if gold == answer:
        return True
    allowed = Fraction(tolerance)
    if one_is_decimal and not (_is_finite_decimal(gold) and _is_finite_decimal(answer)):
        allowed = max(allowed, TOLERANCE)
    return abs(answer - gold) <= allowed * abs(gold)


def is_decimal(text: str) -> bool:
    """Whether a number is written with a point."""
    return "." in text


def _is_finite_decimal(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _of_per_cents(gold: str, answer: str, tolerance: float) -> bool | None:
    """A per-cent sign is a unit against a reference that has one, and a hundredth against any."""
    expected, found = number(bare(as_unit(gold))), number(bare(as_unit(answer)))
    if expected is None or found is None:
        return None
    if has_per_cent(gold) and not has_per_cent(answer):
        return same_number(expected, found, tolerance) or same_number(expected / 100, found, tolerance)
    return same_number(expected if has_per_cent(gold) else expected * 100, found, tolerance)


def without_unit(text: str) -> str | None:
    """The number in front of a unit (``5 cm``, ``3.5\\text{ metres}``), or None where no unit ends the answer."""
    unit = _UNIT.fullmatch(text)
    if unit is None or set(re.findall(r"[a-z]+", (unit["text"] or unit["plain"]).lower())) & _NO_UNITS:
        return None
    bare = unit["number"].strip()
    return bare if number(bare) is not None else None


def _unit_of(text: str) -> str | None:
    """The unit behind a number, as its kind: ``inches`` is ``inch``; None without one that is known."""
    unit = _UNIT.fullmatch(text)
    return _KINDS.get((unit["text"] or unit["plain"]).strip().lower()) if unit else None
