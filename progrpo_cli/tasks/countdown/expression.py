"""Arithmetic expressions over + - * and parentheses: exact parsing, evaluation and canonical form. No ``eval``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

MAX_CHARACTERS = 200
MAX_DIGITS = 6
MAX_DEPTH = 40
_SYMBOL = re.compile(r"[0-9]+|[^ ]", re.DOTALL)


class ParseError(ValueError):
    """The text is not an expression of the grammar."""


class Number(NamedTuple):
    value: int


class Operation(NamedTuple):
    operator: str
    left: Expression
    right: Expression


Expression = Number | Operation


@lru_cache(maxsize=2**16)  # a verdict and then a canonical form, of samples that are often the same
def parse(text: str) -> Expression:
    """Parse ``sum := product (('+'|'-') product)*``, ``product := atom ('*' atom)*``, ``atom := digits | '(' sum ')'``.

    Spaces between symbols are allowed. There is no unary minus, no leading zero and no implicit product.

    Raises:
        ParseError: the text is no such expression, or exceeds the limits on length, digits or nesting.
    """
    if len(text) > MAX_CHARACTERS:
        raise ParseError(f"longer than {MAX_CHARACTERS} characters")
    parser = _Parser(_symbols(text))
    expression = parser.sum(depth=0)
    if parser.symbol:
        raise ParseError(f"unexpected {parser.symbol!r}")
    return expression


def _symbols(text: str) -> Iterator[str]:
    for symbol in _SYMBOL.findall(text):
        if symbol[0] in "0123456789":  # not str.isdigit: that accepts digits of other scripts
            if len(symbol) > MAX_DIGITS or (symbol[0] == "0" and symbol != "0"):
                raise ParseError(f"not a number of this task: {symbol[:20]}")
            yield symbol
        elif symbol in "+-*()":
            yield symbol
        else:
            raise ParseError(f"unexpected character {symbol!r}")


class _Parser:
    """Recursive descent with one symbol of look-ahead; ``symbol`` is empty at the end of the text."""

    def __init__(self, symbols: Iterator[str]) -> None:
        self._symbols = symbols
        self.symbol = next(symbols, "")

    def _take(self) -> str:
        taken, self.symbol = self.symbol, next(self._symbols, "")
        return taken

    def sum(self, depth: int) -> Expression:
        left = self._product(depth)
        while self.symbol in ("+", "-"):
            operator = self._take()
            left = Operation(operator, left, self._product(depth))
        return left

    def _product(self, depth: int) -> Expression:
        left = self._atom(depth)
        while self.symbol == "*":
            self._take()
            left = Operation("*", left, self._atom(depth))
        return left

    def _atom(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH}")
        symbol = self._take()
        if symbol.isdigit():
            return Number(int(symbol))
        if symbol == "(":
            inner = self.sum(depth + 1)
            if self._take() != ")":
                raise ParseError("missing )")
            return inner
        raise ParseError(f"expected a number or (, found {symbol!r}")


def value(expression: Expression) -> int:
    """The exact integer value."""
    if isinstance(expression, Number):
        return expression.value
    left, right = value(expression.left), value(expression.right)
    if expression.operator == "+":
        return left + right
    return left - right if expression.operator == "-" else left * right


def numbers(expression: Expression) -> list[int]:
    """The numbers used, sorted, each as often as it occurs."""
    return sorted(_leaves(expression))


def _leaves(expression: Expression) -> Iterator[int]:
    if isinstance(expression, Number):
        yield expression.value
    else:
        yield from _leaves(expression.left)
        yield from _leaves(expression.right)


def canonical(expression: Expression) -> str:
    """One text for all expressions that differ only by commuting, re-associating or removing parentheses.

    Sums are flattened into signed terms (so ``a-(b-c)`` is ``a-b+c``), products into factors; both are sorted.
    Identities that need arithmetic (``x*1``, ``(a-b)*(c-d) = (b-a)*(d-c)``) are kept apart: they are other ideas.
    """
    terms = sorted((sign < 0, text) for sign, text in _terms(expression, 1))
    return "".join(("-" if negative else "+") + text for negative, text in terms).removeprefix("+")


def _terms(expression: Expression, sign: int) -> Iterator[tuple[int, str]]:
    if isinstance(expression, Operation) and expression.operator in "+-":
        yield from _terms(expression.left, sign)
        yield from _terms(expression.right, sign if expression.operator == "+" else -sign)
    else:
        yield sign, "*".join(sorted(_factors(expression)))


def _factors(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Number):
        yield str(expression.value)
    elif expression.operator == "*":
        yield from _factors(expression.left)
        yield from _factors(expression.right)
    else:
        yield f"({canonical(expression)})"
