"""Arithmetic expressions over + - * and parentheses: value, numbers and canonical form in one pass. No ``eval``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

MAX_CHARACTERS = 200
MAX_DIGITS = 6
MAX_DEPTH = 40
_SYMBOL = re.compile(r"[0-9]+|[^ ]")
_NO_SYMBOL = re.compile(r"[^0-9+\-*() ]")  # not \d: that takes digits of other scripts
_NO_NUMBER = re.compile(rf"(?<![0-9])(?:[0-9]{{{MAX_DIGITS + 1},}}|0[0-9]+)")
_OPPOSITE = {"+": "-", "-": "+"}


class ParseError(ValueError):
    """The text is not an expression of the grammar."""


class Reading(NamedTuple):
    """What an expression says."""

    value: int
    """Exact."""
    numbers: tuple[int, ...]
    """Those it uses, sorted, each as often as it occurs."""
    canonical: str
    """One text for all expressions that differ only by commuting, re-associating or removing parentheses.

    Sums are flattened into signed terms (so ``a-(b-c)`` is ``a-b+c``), products into factors; both are sorted.
    Identities that need arithmetic (``x*1``, ``(a-b)*(c-d) = (b-a)*(d-c)``) are kept apart: they are other ideas.
    """


@lru_cache(maxsize=2**16)  # a verdict and then a canonical form, of samples that are often the same
def read(text: str) -> Reading:
    """Read ``sum := product (('+'|'-') product)*``, ``product := atom ('*' atom)*``, ``atom := digits | '(' sum ')'``.

    Spaces between symbols are allowed. There is no unary minus, no leading zero and no implicit product.

    Raises:
        ParseError: the text is no such expression, or exceeds the limits on length, digits or nesting.
    """
    if len(text) > MAX_CHARACTERS:
        raise ParseError(f"longer than {MAX_CHARACTERS} characters")
    if found := _NO_SYMBOL.search(text):
        raise ParseError(f"unexpected character {found[0]!r}")
    if found := _NO_NUMBER.search(text):
        raise ParseError(f"not a number of this task: {found[0][:20]}")
    reader = _Reader(_SYMBOL.findall(text))
    whole = reader.sum(depth=0)
    if reader.symbol:
        raise ParseError(f"unexpected {reader.symbol!r}")
    return Reading(whole[0], tuple(sorted(reader.numbers)), _canonical(whole))


_Part = tuple[int, list[tuple[str, str]] | None, list[str]]
"""A part of an expression: its value; if it is a sum, its signed terms; else its factors. In canonical form each."""


class _Reader:
    """Recursive descent with one symbol of look-ahead; ``symbol`` is empty at the end of the text."""

    def __init__(self, symbols: list[str]) -> None:
        self._symbols = iter(symbols)
        self.symbol = next(self._symbols, "")
        self.numbers: list[int] = []

    def sum(self, depth: int) -> _Part:
        part = self._product(depth)
        if self.symbol not in ("+", "-"):
            return part
        value, terms = part[0], _terms(part, "+")
        while (sign := self.symbol) in ("+", "-"):
            self.symbol = next(self._symbols, "")
            part = self._product(depth)
            value += part[0] if sign == "+" else -part[0]
            terms += _terms(part, sign)
        return value, terms, []

    def _product(self, depth: int) -> _Part:
        part = self._atom(depth)
        if self.symbol != "*":
            return part
        value, factors = part[0], _factors(part)
        while self.symbol == "*":
            self.symbol = next(self._symbols, "")
            part = self._atom(depth)
            value *= part[0]
            factors += _factors(part)
        return value, None, factors

    def _atom(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH}")
        symbol, self.symbol = self.symbol, next(self._symbols, "")
        if symbol.isdigit():
            number = int(symbol)
            self.numbers.append(number)
            return number, None, [symbol]
        if symbol == "(":
            part = self.sum(depth + 1)
            if self.symbol != ")":
                raise ParseError("missing )")
            self.symbol = next(self._symbols, "")
            return part
        raise ParseError(f"expected a number or (, found {symbol!r}")


def _terms(part: _Part, sign: str) -> list[tuple[str, str]]:
    """The part's terms where it is added or subtracted."""
    _, terms, factors = part
    if terms is None:
        return [(sign, "*".join(sorted(factors)))]
    return terms if sign == "+" else [(_OPPOSITE[before], text) for before, text in terms]


def _factors(part: _Part) -> list[str]:
    """The part's factors where it is multiplied."""
    _, terms, factors = part
    return factors if terms is None else [f"({_canonical(part)})"]


def _canonical(part: _Part) -> str:
    _, terms, factors = part
    if terms is None:
        return "*".join(sorted(factors))
    return "".join([sign + text for sign, text in sorted(terms)]).removeprefix("+")
