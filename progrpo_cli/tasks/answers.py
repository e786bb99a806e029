r"""Where the answer of a completion is: one extractor for every task with exact answers.

The rules, in their order (``docs/tasks.md`` has them for users):

1. Only what stands behind the last ``</think>`` counts; in thinking that is never closed there is no answer.
2. The last ``\boxed{...}`` (also ``\fbox``, ``\boxed 42``) or ``<answer>...</answer>``, whichever comes later. Boxes
   that only ``and``, ``or`` or a comma parts are one list. A last box that is not closed is no answer.
3. The last line ``#### 5``, as GSM8K has it.
4. What follows the last statement of an answer ("the answer is", "Answer:", "Final Answer" and a line's end), else
   that of a result: the formula, the emphasis or the quotation that begins there, else its sentence.

Linear in the length of the text, and nothing is computed: this runs in our own process on whatever a policy wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_ANSWER = 500
"""Characters of an answer."""
MAX_TEXT = 2_000_000
"""Characters at the end of a completion that are searched for a box."""
MAX_TAIL = 20_000
"""Characters at the end of a completion that are searched for a stated answer."""
MAX_BOXES = 20
"""Boxes that are read as one list."""

THINKS = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)(?:[ \t]{0,9}(\{)|[ \t]{1,9}([-+]?\d[\d.,]{0,99}|[A-Za-z]\b))")
_BETWEEN_BOXES = re.compile(
    r"[\s$.]{0,9}(?:,|;|\band\b|\bor\b|、|和)(?:\s{0,9}(?:and|or)\b)?[\s$]{0,9}(?:\$?[A-Za-z](?:_\{?\d\}?)?\s?=\s?)?[\s$]{0,9}"
)
_TAG, _TAG_ENDS = re.compile(r"<answer>", re.IGNORECASE), re.compile(r"</answer>", re.IGNORECASE)
_HASHES = re.compile(r"^[ \t]{0,3}####[ \t]{0,9}([-+$€£¥(\\]?[\d.\\$(-][^\n]{0,500})$", re.MULTILINE)
_BE = (
    r"(?:\s(?:is|are|was|be|would\sbe|must\sbe|should\sbe|will\sbe|equals|comes\sout\sto\sbe|turns\sout\sto\sbe)\b"
    r"|\s?[:=：])"
)
_OF = r"(?:\s(?:to|of|for)\s[^\n.:]{1,80}?)?"
_ANSWER_IS = re.compile(
    rf"(?:\banswers?\b|\b(?:correct|right|best)\s(?:option|choice)\b)[*_\s]{{0,3}}{_OF}[*_]{{0,3}}{_BE}[*_]{{0,3}}"
    r"|答案[*\s]{0,3}(?:[:：]|是|为)|\bfinal\sanswer\b[*_:#]{0,6}[ \t]{0,9}(?=\n)",
    re.IGNORECASE,
)
_RESULT_IS = re.compile(r"\b(?:result|solution|value)\b[*_]{0,3}(?:\sis\b|\s?[:=])[*_]{0,3}", re.IGNORECASE)
_FILLER = re.compile(
    r"(?:[\s:：,*_>]|\b(?:therefore|thus|then|hence|simply|just|exactly|clearly|indeed|now|also|equal\sto|given\sby|option|choice)\b)+",
    re.IGNORECASE,
)
_OPENED = {
    "$$": "$$",
    "$": "$",
    "\\[": "\\]",
    "\\(": "\\)",
    "**": "**",
    "`": "`",
    '"': '"',
    "'": "'",
    "“": "”",
    "‘": "’",
}
_FORMULAS = ("$$", "$", "\\[", "\\(")
_MORE = re.compile(r"\s{0,9}(?:,|;|\band\b|\bor\b)(?:\s(?:and|or)\b)?\s{0,9}(?=\$|\\\(|\\\[)")
_PER_CENT = re.compile(r"\s?(?:\\?%|per\s?cent\b)", re.IGNORECASE)
_END = re.compile(
    r"\n|[.。．?？;；](?=\s|$)|。|[!！](?=\s)|\s[-–—]{1,2}\s"
    r"|,?\s\(?(?:since|because|as|so|not|when|where|which|but|after|by|from|hence|if|rather|instead|i\.e)\b"
    r"|,\s(?!and\b|or\b)(?=[A-Za-z]{2,})",
    re.IGNORECASE,
)


def answer_in(text: str) -> str | None:
    """The answer, or None where there is none or where it is longer than the limit on answers."""
    marked = marked_answer(text)
    if marked is not None:
        return marked or None
    return stated_answer(text)


def stated_answer(text: str) -> str | None:
    """The answer that the last statement with one states, whatever is marked."""
    return next((answer for stated in statements(text) if (answer := _first_answer(stated))), None)


def after_thinking(text: str) -> str:
    """What stands behind the last end of thinking; all of it where none ends."""
    ends = list(_THOUGHT.finditer(text))
    return text[ends[-1].end() :] if ends else text


def said(text: str) -> str | None:
    """What the policy says after it has thought; None: it never stopped thinking."""
    rest = after_thinking(text)
    return None if THINKS.search(rest) else rest


def marked_answer(text: str) -> str | None:
    """The content of the last box or tag, else of the last ``####``; empty where it is not closed; None without any."""
    rest = said(text)
    if rest is None:
        return ""
    rest = rest[-MAX_TEXT:]
    boxes = list(_BOXED.finditer(rest))
    tag = _tagged(rest)
    if tag is not None and (not boxes or boxes[-1].start() < tag[1]):
        inside = tag[0].strip()
        boxes = list(_BOXED.finditer(inside))
        return _boxed(inside, boxes) if boxes else inside[: MAX_ANSWER + 1]
    if boxes:
        return _boxed(rest, boxes)
    lines = _HASHES.findall(rest[-MAX_TAIL:])
    return lines[-1].strip() if lines else None


def statements(text: str) -> Iterator[str]:
    """What follows each statement of an answer, the last one first; then of each result."""
    rest = said(text)
    if rest is None:
        return
    tail = rest[-MAX_TAIL:]
    for pattern in (_ANSWER_IS, _RESULT_IS):
        for match in reversed(list(pattern.finditer(tail))):
            yield tail[match.end() : match.end() + 2 * MAX_ANSWER]


def _tagged(text: str) -> tuple[str, int] | None:
    """What the last ``<answer>`` and the ``</answer>`` behind it hold, and where they end."""
    begins, ends = list(_TAG.finditer(text)), list(_TAG_ENDS.finditer(text))
    if not ends:
        return None
    before = [begin for begin in begins if begin.end() <= ends[-1].start()]
    return (text[before[-1].end() : ends[-1].start()], ends[-1].end()) if before else None


def _boxed(text: str, boxes: list[re.Match[str]]) -> str:
    """The last box, and those before it that a comma or ``and`` parts from it."""
    contents: list[str] = []
    begin = None
    for box in reversed(boxes[-MAX_BOXES:]):
        closed = _balanced(text, box.end()) if box[1] else (box[2].rstrip(".,"), 0)
        if closed is None:
            break
        content, length = closed
        if begin is not None and not _BETWEEN_BOXES.fullmatch(text[box.end() + length : begin]):
            break
        contents.append(content.strip())
        begin = box.start()
    return ", ".join(reversed(list(dict.fromkeys(contents))))


def _balanced(text: str, start: int) -> tuple[str, int] | None:
    """What stands in the braces that are open at ``start``, and how many characters that takes; None: not closed."""
    depth = 1
    for position in range(start, min(len(text), start + MAX_ANSWER + 1)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return text[start:position], position + 1 - start
    return None


def _first_answer(stated: str) -> str:
    """The answer at the beginning of what follows a statement; empty without one."""
    filler = _FILLER.match(stated)
    rest = stated[filler.end() :] if filler and "**" not in filler[0] else stated.lstrip(" \t\n:：,")
    for opened, closed in _OPENED.items():
        if not rest.startswith(opened):
            continue
        end = rest.find(closed, len(opened))
        if end < 0:
            rest = rest[len(opened) :]
            break
        inside, behind = rest[len(opened) : end].strip(), rest[end + len(closed) :]
        if opened in _FORMULAS and (per_cent := _PER_CENT.match(behind)):
            inside, behind = inside + "\\%", behind[per_cent.end() :]
        if opened in _FORMULAS and (more := _MORE.match(behind)):
            return f"{inside}, {_first_answer(behind[more.end() :])}"
        return inside.rstrip(".") if opened not in _FORMULAS else inside
    end_of = _END.search(rest)
    return (rest[: end_of.start()] if end_of else rest).strip().strip("*").strip()[: MAX_ANSWER + 1]
