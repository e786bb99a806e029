"""The three styles of an answer in the lab, and the expression that an answer stands for.

===========  ===========================  =================================================================
``direct``   ``(3*7-5)*2``                an expression
``sum``      ``sum:7+3=10-5=5+2=7``       additions and subtractions from left to right, each with its value
``product``  ``product:7*3=21-5=16*2=32``  the same with at least one multiplication
===========  ===========================  =================================================================

After ``sum:`` and ``product:`` there can be several tries, separated by ``;``. The last try is the answer. Earlier
tries are not judged, like the text that a reasoning model writes before its answer.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from progrpo_cli.tasks.countdown import expression

Style = Literal["direct", "sum", "product"]
STYLES: tuple[Style, ...] = get_args(Style)
STEPWISE: tuple[Style, ...] = STYLES[1:]
NAME_END = ":"
TRY_SEPARATOR = ";"
_STEPS = re.compile(r"([0-9]+)((?:[-+*][0-9]+=-?[0-9]{1,6})+)")
_STEP = re.compile(r"([-+*][0-9]+)=(-?[0-9]+)")


def style_of(text: str) -> Style:
    """Return the style of an answer."""
    name, colon, _ = text.partition(NAME_END)
    return next((style for style in STEPWISE if colon and style == name), "direct")


def split_tries(text: str) -> list[str]:
    """Return the tries of an answer. A direct answer is one try."""
    return [text] if style_of(text) == "direct" else text.partition(NAME_END)[2].split(TRY_SEPARATOR)


def expression_of(text: str) -> str | None:
    """Return the expression that the last try stands for.

    None if a step states a false value, or the steps do not fit the name of the style.

    Raises:
        ParseError: the last try of a stepwise answer is not a list of steps.
    """
    last = split_tries(text)[-1]
    style = style_of(text)
    if style == "direct":
        return last
    steps = _STEPS.fullmatch(last)
    if not steps:
        raise expression.ParseError("not steps from left to right")
    if ("*" in last) != (style == "product"):
        return None
    composed = steps[1]
    for step, value in _STEP.findall(steps[2]):
        composed = f"({composed}){step}"
        if expression.parse(composed).value != int(value):
            return None
    return composed
