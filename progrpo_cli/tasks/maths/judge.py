"""Judge one answer with math-verify (0.9), in a worker of :mod:`progrpo_cli.tasks.judging` with its limits.

math-verify's own time limits are disabled: they use alarms, which work only in the main thread and cannot stop every
computation. Its comparison of numbers is replaced by :mod:`progrpo_cli.tasks.maths.numbers`. Per-cent signs are written
out as fractions before parsing, because its parser fails on them with the ANTLR version that Hydra pins.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, grader, parse, verify

from progrpo_cli.tasks.maths import numbers
from progrpo_cli.tasks.maths.normalisation import and_to_comma, expand_per_cent, has_per_cent, remove_per_cent

logging.disable(logging.CRITICAL)

_RELATION = re.compile(r"[<>]|\\(?:le|ge|leq|geq|lt|gt|ne|neq)\b")
_TWO_NUMBERS = re.compile(r"(?<![_^\d])\d+(?:\s|~|\\,|\\;|\\ )+\d")
_DOTS = re.compile(r"\\(?:ldots|dots|cdots|dotsc)\b|\.\.\.|…")
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s*\d\s*\d")
_EQUALS = re.compile(r"(?<![<>!\\])=(?!=)")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_LETTER = re.compile(r"[A-Za-z]")
_DECIMAL = re.compile(r"-?\d*\.\d+")
_SIZE = re.compile(r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])")
_ORDERED = re.compile(r"[(\[][^()\[\]{}]*[)\]]")
_symbolically_equal, _solve_and_compare = grader.sympy_symbolic_eq, grader.sympy_solve_and_compare


def _solutions_agree(gold: Any, answer: Any, *precision: int) -> bool:
    """math-verify's comparison, except that two relations without solutions are not equal."""
    if not (sympy.solve(gold, gold.free_symbols) and sympy.solve(answer, answer.free_symbols)):
        return False
    return bool(_solve_and_compare(gold, answer, *precision))


grader.sympy_numeric_eq = numbers.equal
grader.sympy_symbolic_eq = lambda gold, answer: _symbolically_equal(
    numbers.with_fractions(gold), numbers.with_fractions(answer)
)
grader.sympy_solve_and_compare = _solutions_agree


def _parse(answer: str) -> list[Any]:
    """Parse an answer. Empty if the parser does not understand it."""
    if _TWO_NUMBERS.search(_SHORT_FRACTION.sub("", answer)):
        return []  # the parser would read `3 5` as 8
    answer = _DOTS.sub(r"\\Omega_{99}", answer)  # the parser cannot read `1, 2, \ldots, n`
    text = answer if _RELATION.search(answer) else and_to_comma(answer)
    boxed = LatexExtractionConfig(boxed_match_priority=0)
    expressions = parse(f"\\boxed{{{text}}}", extraction_config=[boxed], parsing_timeout=None)
    return [_with_imaginary_unit(expression) for expression in expressions if not isinstance(expression, str)]


def _is_false_equation(answer: str) -> bool:
    """Whether two sides of an equation are different numbers, as in ``3=2``: math-verify looks at the last side only.

    A decimal side may be the rounded value of the other one.
    """
    sides = [side.strip() for side in _EQUALS.split(answer)]
    numeric = [side for side in sides if side and not _LETTER.search(_COMMAND.sub("", side))]
    if len(sides) < 2 or len(numeric) < 2:
        return False
    values = [(side, parsed[0]) for side in numeric if (parsed := _parse(side))]
    return any(not _are_same(one, other) for one, other in itertools.pairwise(values))


def _are_same(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    """Whether two sides of an equation have the same value, up to the rounding of a decimal."""
    if numbers.equal(one[1], other[1]):
        return True
    try:
        difference = abs(float(one[1]) - float(other[1]))
    except (TypeError, ValueError, OverflowError):  # not numbers: a set or a pair may be written in two ways
        return True
    places = [len(text.rpartition(".")[2]) for text, _ in (one, other) if _DECIMAL.fullmatch(text)]
    return bool(places) and difference <= 0.5001 * 10.0 ** -min(places)


def _bracket_kind(text: str) -> str:
    """Return ``set`` for ``\\{1,2\\}``, ``ordered`` for ``(1,2)`` and ``[1,2]``, else an empty string."""
    bare = _SIZE.sub("", text).replace(" ", "")
    if "," not in bare:
        return ""
    if bare.startswith("\\{") and bare.endswith("\\}"):
        return "set"
    return "ordered" if _ORDERED.fullmatch(bare) else ""


def _with_imaginary_unit(expression: Any) -> Any:
    """Replace ``i`` by the imaginary unit if it is the only letter."""
    symbols = getattr(expression, "free_symbols", None) or ()
    if symbols and all(symbol.name == "i" for symbol in symbols):
        return expression.subs(dict.fromkeys(symbols, sympy.I))
    return expression


def judge(request: Mapping[str, Any]) -> str:
    """Return ``correct``, ``wrong`` or ``unparseable``, or ``no reference`` if the reference cannot be parsed.

    ``request`` has ``gold``, ``answer`` and optionally ``tolerance``; both texts are normalised. Without ``answer``,
    only the reference is parsed.
    """
    gold = request["gold"]
    reference = _parse(expand_per_cent(gold))
    if not reference:
        return "no reference"
    if "answer" not in request:
        return "correct"
    numbers.tolerance = request.get("tolerance", 0.0)
    answer = _parse(expand_per_cent(request["answer"]))
    if not answer:
        return "unparseable"
    kinds = {_bracket_kind(gold), _bracket_kind(request["answer"])}
    if kinds == {"set", "ordered"} or _is_false_equation(request["answer"]):
        return "wrong"
    if verify(reference, answer, timeout_seconds=None):
        return "correct"
    if has_per_cent(gold) and not has_per_cent(request["answer"]):
        return "correct" if verify(_parse(remove_per_cent(gold)), answer, timeout_seconds=None) else "wrong"
    return "wrong"


# Judge one answer of each kind before the workers are forked, because parsers and SymPy load modules at first use.
for _example in (
    *("\\frac{1}{2}", "x^2+1", "(1,2)", "\\{1,2\\}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "[0,\\infty)"),
    *("(10^{-2}, 1)", "x=0.5", "1.5 \\times 10^{3}"),
):
    judge({"gold": _example, "answer": "\\sqrt{2}"})
    judge({"gold": _example, "answer": _example})
