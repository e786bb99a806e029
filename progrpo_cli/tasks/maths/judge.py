"""math-verify (0.9) on one answer, run in a worker of :mod:`progrpo_cli.tasks.judging`, which holds the limits.

Its own time limits are switched off: they are alarms, which neither work in every thread nor stop every computation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

logging.disable(logging.CRITICAL)


def _parsed(answer: str) -> list[Any]:
    boxed = LatexExtractionConfig(boxed_match_priority=0)
    parsed: list[Any] = parse(f"\\boxed{{{answer}}}", extraction_config=[boxed], parsing_timeout=None)
    return parsed


def judge(request: Mapping[str, Any]) -> str:
    """``correct``, ``wrong`` or ``unparseable``; ``no reference`` where the reference answer is what cannot be read."""
    gold = _parsed(request["gold"])
    if not gold:
        return "no reference"
    if "answer" not in request:
        return "correct"
    answer = _parsed(request["answer"])
    if not answer:
        return "unparseable"
    return "correct" if verify(gold, answer, timeout_seconds=None) else "wrong"


# One of each kind before the workers are forked: parsers and SymPy load the rest of themselves at first use.
for _first in ("\\frac{1}{2}", "x^2+1", "(1,2)", "\\{1,2\\}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", "[0,\\infty)"):
    judge({"gold": _first, "answer": "\\sqrt{2}"})
    judge({"gold": _first, "answer": _first})
