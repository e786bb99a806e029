"""The ways in which an answer of the lab can be written, and which expression it stands for.

===========  ===========================  =================================================================
``direct``   ``(3*7-5)*2``                an expression
``sum``      ``sum:7+3=10-5=5+2=7``       steps from left to right, each with its value, by adding and subtracting
``product``  ``product:7*3=21-5=16*2=32``  the same with a multiplication
===========  ===========================  =================================================================

After ``sum:`` and ``product:`` there can be several tries, with ``;`` between them. The last one is the answer; what is
before it is work, and not judged, as nobody judges what a reasoning model writes before its answer.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from progrpo_cli.tasks.countdown import expression

Way = Literal["direct", "sum", "product"]
WAYS: tuple[Way, ...] = get_args(Way)
STEPWISE: tuple[Way, ...] = WAYS[1:]
AFTER_A_NAME = ":"
BETWEEN_TRIES = ";"
_STEPS = re.compile(r"([0-9]+)((?:[-+*][0-9]+=-?[0-9]{1,6})+)")
_STEP = re.compile(r"([-+*][0-9]+)=(-?[0-9]+)")


def way_of(text: str) -> Way:
    """How the answer is written."""
    name, colon, _ = text.partition(AFTER_A_NAME)
    return next((way for way in STEPWISE if colon and way == name), "direct")


def tries_of(text: str) -> list[str]:
    """The tries of an answer; the whole text, if it is direct."""
    return [text] if way_of(text) == "direct" else text.partition(AFTER_A_NAME)[2].split(BETWEEN_TRIES)


def expression_of(text: str) -> str | None:
    """The expression that the last try stands for; None, if it belies its steps' values or the name of its way.

    Raises:
        ParseError: there are no steps.
    """
    last = tries_of(text)[-1]
    way = way_of(text)
    if way == "direct":
        return last
    whole = _STEPS.fullmatch(last)
    if not whole:
        raise expression.ParseError("not steps from left to right")
    if ("*" in last) != (way == "product"):
        return None
    composed = whole[1]
    for step, value in _STEP.findall(whole[2]):
        composed = f"({composed}){step}"
        if expression.read(composed).value != int(value):
            return None
    return composed
