"""When two expressions are the same number: relatively, and exactly where both are exact.

math-verify (0.9) rounds to six decimals and takes differences below 1e-15 for none: for it ``1.6e-19`` is ``9.1e-31``.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import sympy
from sympy import Basic, Float, MatrixBase, MatrixExpr, Rational

from progrpo_cli.tasks.maths.known import TOLERANCE, same_number

DIGITS = 60
"""Two exact irrationals that agree so far, but for the last ten digits, are the same."""

tolerance: float = 0.0
"""Relative, of numbers, for the answer that is being judged: the benchmark's own, if it has one."""


def exact(expression: Any) -> Any:
    """The expression with its decimals as fractions."""
    if not isinstance(expression, Basic | MatrixBase):
        return expression
    floats = {value: Rational(repr(float(value))) for value in expression.atoms(Float) if value.is_finite}
    return expression.xreplace(floats) if floats else expression


def equal(gold: Any, answer: Any, *_: int) -> bool:
    """Whether two expressions are the same number, or matrices of the same numbers; False: not known to be.

    Where a decimal stands against what has no finite decimal, a relative difference of 1e-6 is none. Only zero is zero.
    """
    if isinstance(gold, MatrixBase | MatrixExpr) and isinstance(answer, MatrixBase | MatrixExpr):
        ours, theirs = gold.doit(), answer.doit()
        if not (isinstance(ours, MatrixBase) and isinstance(theirs, MatrixBase) and ours.shape == theirs.shape):
            return False
        return all(equal(one, other) for one, other in zip(ours.flat(), theirs.flat(), strict=True))
    ours, theirs = exact(gold).doit(), exact(answer).doit()
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
    """Two numbers of which one is irrational, by many digits; 0 is only 0."""
    values = [sympy.N(side, DIGITS) for side in (gold, answer)]
    if not all(value.is_number and value.is_finite for value in values):
        return False
    size = abs(values[0])
    if size == 0 or values[1] == 0:
        return False
    return bool(abs(values[1] - values[0]) <= max(sympy.Float(allowed), sympy.Float(10) ** (10 - DIGITS)) * size)
