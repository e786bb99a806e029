"""Parse arithmetic expressions over + - * and parentheses: value, numbers and canonical form. Does not use ``eval``."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

MAX_CHARACTERS = 200
MAX_DIGITS = 6
MAX_DEPTH = 40
_SYMBOL = re.compile(r"[0-9]+|[^ ]")
_NOT_A_SYMBOL = re.compile(r"[^0-9+\-*() ]")  # not \d, which matches digits of other scripts
_NOT_A_NUMBER = re.compile(rf"(?<![0-9])(?:[0-9]{{{MAX_DIGITS + 1},}}|0[0-9]+)")
_OPPOSITE = {"+": "-", "-": "+"}


class ParseError(ValueError):
    """The text is not an expression of the grammar."""


class Parsed(NamedTuple):
    """A parsed expression."""

    value: int
    numbers: tuple[int, ...]
    """The numbers in the expression, sorted, with repetitions."""
    canonical: str
    """The same text for all expressions that differ only by commuting, re-associating or removing parentheses.

    Sums are flattened into signed terms (so ``a-(b-c)`` is ``a-b+c``), products into factors; both are sorted.
    Expressions that are equal only by arithmetic (``x*1``, ``(a-b)*(c-d) = (b-a)*(d-c)``) count as different ideas.
    """


@lru_cache(maxsize=2**16)  # each sample is read for its verdict and its canonical form, and many samples are equal
def parse(text: str) -> Parsed:
    """Parse ``sum := product (('+'|'-') product)*``, ``product := atom ('*' atom)*``, ``atom := digits | '(' sum ')'``.

    Spaces between symbols are allowed. Unary minus, leading zeros and implicit products are not.

    Raises:
        ParseError: the text is not such an expression, or exceeds the limits on length, digits or nesting.
    """
    if len(text) > MAX_CHARACTERS:
        raise ParseError(f"longer than {MAX_CHARACTERS} characters")
    if match := _NOT_A_SYMBOL.search(text):
        raise ParseError(f"unexpected character {match[0]!r}")
    if match := _NOT_A_NUMBER.search(text):
        raise ParseError(f"not a number of this task: {match[0][:20]}")
    parser = _Parser(_SYMBOL.findall(text))
    whole = parser.sum(depth=0)
    if parser.symbol:
        raise ParseError(f"unexpected {parser.symbol!r}")
    return Parsed(whole[0], tuple(sorted(parser.numbers)), _canonical(whole))


_Part = tuple[int, list[tuple[str, str]] | None, list[str]]
"""A part of an expression: its value, its signed terms if it is a sum, else its factors, all in canonical form."""


class _Parser:
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
            raise ParseError(f"more than {MAX_DEPTH} nested parentheses")
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
    """Return the signed terms of a part that is added or subtracted."""
    _, terms, factors = part
    if terms is None:
        return [(sign, "*".join(sorted(factors)))]
    return terms if sign == "+" else [(_OPPOSITE[inner], text) for inner, text in terms]


def _factors(part: _Part) -> list[str]:
    """Return the factors of a part that is multiplied."""
    _, terms, factors = part
    return factors if terms is None else [f"({_canonical(part)})"]


def _canonical(part: _Part) -> str:
    _, terms, factors = part
    if terms is None:
        return "*".join(sorted(factors))
    return "".join([sign + text for sign, text in sorted(terms)]).removeprefix("+")
