"""Whether two expressions are the same number: exactly if both are exact, else up to a relative difference.

math-verify (0.9) rounds to six decimals and ignores differences below 1e-15, so ``1.6e-19`` would equal ``9.1e-31``.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import sympy
from sympy import Basic, Float, MatrixBase, MatrixExpr, Rational

from progrpo_cli.tasks.maths.text_comparison import TOLERANCE, same_number

DIGITS = 60
"""Exact irrational numbers are computed to this many digits and compared without the last ten."""

tolerance: float = 0.0
"""The benchmark's relative tolerance for the answer that is being judged; 0 if it has none."""


def with_fractions(expression: Any) -> Any:
    """Replace the decimals in an expression by fractions."""
    if not isinstance(expression, Basic | MatrixBase):
        return expression
    floats = {value: Rational(repr(float(value))) for value in expression.atoms(Float) if value.is_finite}
    return expression.xreplace(floats) if floats else expression


def equal(gold: Any, answer: Any, *_: int) -> bool:
    """Whether two expressions are the same number, or matrices of the same numbers. False if that is unknown.

    A decimal may differ by a relative 1e-6 from a number that has no finite decimal. Only zero equals zero.
    """
    if isinstance(gold, MatrixBase | MatrixExpr) and isinstance(answer, MatrixBase | MatrixExpr):
        ours, theirs = gold.doit(), answer.doit()
        if not (isinstance(ours, MatrixBase) and isinstance(theirs, MatrixBase) and ours.shape == theirs.shape):
            return False
        return all(equal(one, other) for one, other in zip(ours.flat(), theirs.flat(), strict=True))
    ours, theirs = with_fractions(gold).doit(), with_fractions(answer).doit()
    if ours == theirs:
        return True
    if ours.free_symbols or theirs.free_symbols:
        return bool((ours - theirs).expand() == 0)
    is_decimal = [bool(side.atoms(Float)) for side in (gold, answer)]
    if isinstance(ours, Rational) and isinstance(theirs, Rational):
        if not (ours.is_finite and theirs.is_finite):
            return False
        return same_number(_fraction(ours), _fraction(theirs), tolerance, is_decimal[0] != is_decimal[1])
    return _close(ours, theirs, max(tolerance, float(TOLERANCE) if any(is_decimal) else 0.0))


def _fraction(value: Rational) -> Fraction:
    return Fraction(int(value.p), int(value.q))


def _close(gold: Any, answer: Any, allowed: float) -> bool:
    """Whether two numbers, at least one of them irrational, agree to ``DIGITS - 10`` digits or within ``allowed``."""
    values = [sympy.N(side, DIGITS) for side in (gold, answer)]
    if not all(value.is_number and value.is_finite for value in values):
        return False
    size = abs(values[0])
    if size == 0 or values[1] == 0:
        return False
    return bool(abs(values[1] - values[0]) <= max(sympy.Float(allowed), sympy.Float(10) ** (10 - DIGITS)) * size)
