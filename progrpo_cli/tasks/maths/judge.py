"""math-verify (0.9) on one answer, run in a worker of :mod:`progrpo_cli.tasks.judging`, which holds the limits.

Its own time limits are switched off: they are alarms, which neither work in every thread nor stop every computation.
Its comparison of numbers is ours (:mod:`progrpo_cli.tasks.maths.numbers`). Per-cent signs never reach its parser, which
fails on each of them beside the ANTLR that Hydra pins: what they are worth is written out before.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, grader, parse, verify

from progrpo_cli.tasks.maths import numbers
from progrpo_cli.tasks.maths.normal import as_unit, as_value, has_per_cent, without_and

logging.disable(logging.CRITICAL)

_RELATION = re.compile(r"[<>]|\\(?:le|ge|leq|geq|lt|gt|ne|neq)\b")
_TWO_NUMBERS = re.compile(r"(?<![_^\d])\d+(?:\s|~|\\,|\\;|\\ )+\d")
_DOTS = re.compile(r"\\(?:ldots|dots|cdots|dotsc)\b|\.\.\.|…")
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s*\d\s*\d")
_symbolically_equal, _solve_and_compare = grader.sympy_symbolic_eq, grader.sympy_solve_and_compare


def _solutions_agree(gold: Any, answer: Any, *precision: int) -> bool:
    """math-verify's; two relations without any solution agree in nothing."""
    if not (sympy.solve(gold, gold.free_symbols) and sympy.solve(answer, answer.free_symbols)):
        return False
    return bool(_solve_and_compare(gold, answer, *precision))


grader.sympy_numeric_eq = numbers.equal
grader.sympy_symbolic_eq = lambda gold, answer: _symbolically_equal(numbers.exact(gold), numbers.exact(answer))
grader.sympy_solve_and_compare = _solutions_agree


def _parsed(answer: str) -> list[Any]:
    """What the parser reads; texts that it does not understand are left out."""
    if _TWO_NUMBERS.search(_SHORT_FRACTION.sub("", answer)):
        return []  # the parser takes `3 5` for 8
    answer = _DOTS.sub(r"\\Omega_{99}", answer)  # of `1, 2, \ldots, n` the parser makes nothing
    text = answer if _RELATION.search(answer) else without_and(answer)
    boxed = LatexExtractionConfig(boxed_match_priority=0)
    found = parse(f"\\boxed{{{text}}}", extraction_config=[boxed], parsing_timeout=None)
    return [_complex(expression) for expression in found if not isinstance(expression, str)]


def _complex(expression: Any) -> Any:
    """With the imaginary unit for an ``i`` that is the only letter."""
    symbols = getattr(expression, "free_symbols", None) or ()
    if symbols and all(symbol.name == "i" for symbol in symbols):
        return expression.subs(dict.fromkeys(symbols, sympy.I))
    return expression


def judge(request: Mapping[str, Any]) -> str:
    """``correct``, ``wrong`` or ``unparseable``; ``no reference`` where the reference answer is what cannot be read.

    ``request`` has ``gold``, ``answer`` (without it only the reference is read), both normal, and ``tolerance`` if any.
    """
    gold = request["gold"]
    reference = _parsed(as_value(gold))
    if not reference:
        return "no reference"
    if "answer" not in request:
        return "correct"
    numbers.tolerance = request.get("tolerance", 0.0)
    answer = _parsed(as_value(request["answer"]))
    if not answer:
        return "unparseable"
    if verify(reference, answer, timeout_seconds=None):
        return "correct"
    if has_per_cent(gold) and not has_per_cent(request["answer"]):
        return "correct" if verify(_parsed(as_unit(gold)), answer, timeout_seconds=None) else "wrong"
    return "wrong"


# One of each kind before the workers are forked: parsers and SymPy load the rest of themselves at first use.
for _first in (
    *("\\frac{1}{2}", "x^2+1", "(1,2)", "\\{1,2\\}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "[0,\\infty)"),
    *("(10^{-2}, 1)", "x=0.5", "1.5 \\times 10^{3}"),
):
    judge({"gold": _first, "answer": "\\sqrt{2}"})
    judge({"gold": _first, "answer": _first})
