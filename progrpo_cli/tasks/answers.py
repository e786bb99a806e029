r"""Extract the answer from a completion. All tasks with exact answers use this module.

The rules, in order (``docs/tasks.md`` describes them for users):

1. Only the text after the last ``</think>`` counts. If the thinking is never closed, there is no answer.
2. The last ``\boxed{...}`` (also ``\fbox``, ``\boxed 42``) or ``<answer>...</answer>``, whichever comes later. Boxes
   separated only by ``and``, ``or`` or a comma form one list. If the last box is not closed, there is no answer.
3. The last line of the form ``#### 5``, as in GSM8K.
4. The text after the last "the answer is", "Answer:" or "Final Answer" at the end of a line, else after the last
   "result is": the formula, bold text or quotation that starts there, else the rest of the sentence.

This runs in our own process on arbitrary output of a policy, so it takes linear time and evaluates nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_ANSWER = 500
"""Characters. A longer answer is rejected."""
MAX_TEXT = 2_000_000
"""Characters at the end of a completion that are searched for a box."""
MAX_TAIL = 20_000
"""Characters at the end of a completion that are searched for a stated answer."""
MAX_BOXES = 20
"""Boxes that can form one list."""

THINK_OPEN = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_THINK_CLOSE = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)(?:[ \t]{0,9}(\{)|[ \t]{1,9}([-+]?\d[\d.,]{0,99}|[A-Za-z]\b))")
_BETWEEN_BOXES = re.compile(
    r"[\s$.]{0,9}(?:,|;|\band\b|\bor\b|、|和)(?:\s{0,9}(?:and|or)\b)?[\s$]{0,9}(?:\$?[A-Za-z](?:_\{?\d\}?)?\s?=\s?)?[\s$]{0,9}"
)
_ANSWER_OPEN, _ANSWER_CLOSE = re.compile(r"<answer>", re.IGNORECASE), re.compile(r"</answer>", re.IGNORECASE)
_HASHES = re.compile(r"^[ \t]{0,3}####[ \t]{0,9}([-+$€£¥(\\]?[\d.\\$(-][^\n]{0,500})$", re.MULTILINE)
_IS = (
    r"(?:\s(?:is|are|was|be|would\sbe|must\sbe|should\sbe|will\sbe|equals|comes\sout\sto\sbe|turns\sout\sto\sbe)\b"
    r"|\s?[:=：])"
)
_OF = r"(?:\s(?:to|of|for)\s[^\n.:]{1,80}?)?"
_ANSWER_IS = re.compile(
    rf"(?:\banswers?\b|\b(?:correct|right|best)\s(?:option|choice)\b)[*_\s]{{0,3}}{_OF}[*_]{{0,3}}{_IS}[*_]{{0,3}}"
    r"|答案[*\s]{0,3}(?:[:：]|是|为)|\bfinal\sanswer\b[*_:#]{0,6}[ \t]{0,9}(?=\n)",
    re.IGNORECASE,
)
_RESULT_IS = re.compile(r"\b(?:result|solution|value)\b[*_]{0,3}(?:\sis\b|\s?[:=])[*_]{0,3}", re.IGNORECASE)
_FILLER = re.compile(
    r"(?:[\s:：,*_>]|\b(?:therefore|thus|then|hence|simply|just|exactly|clearly|indeed|now|also|equal\sto|given\sby|option|choice)\b)+",
    re.IGNORECASE,
)
_DELIMITERS = {
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
_FORMULA_DELIMITERS = ("$$", "$", "\\[", "\\(")
_NEXT_FORMULA = re.compile(r"\s{0,9}(?:,|;|\band\b|\bor\b)(?:\s(?:and|or)\b)?\s{0,9}(?=\$|\\\(|\\\[)")
_PER_CENT = re.compile(r"\s?(?:\\?%|per\s?cent\b)", re.IGNORECASE)
_SENTENCE_END = re.compile(
    r"\n|[.。．?？;；](?=\s|$)|。|[!！](?=\s)|\s[-–—]{1,2}\s"
    r"|,?\s\(?(?:since|because|as|so|not|when|where|which|but|after|by|from|hence|if|rather|instead|i\.e)\b"
    r"|,\s(?!and\b|or\b)(?=[A-Za-z]{2,})",
    re.IGNORECASE,
)


def extract_answer(text: str) -> str | None:
    """Return the answer, or None if there is none or an answer mark (box, tag) is empty or not closed.

    The answer may be longer than ``MAX_ANSWER``; the caller checks.
    """
    marked = marked_answer(text)
    if marked is not None:
        return marked or None
    return stated_answer(text)


def stated_answer(text: str) -> str | None:
    """Return the answer of the last statement that has one, ignoring boxes, tags and ``####``."""
    return next((answer for stated in after_statements(text) if (answer := _leading_answer(stated))), None)


def after_thinking(text: str) -> str:
    """Return the text after the last closing tag of thinking, or all of it if there is no such tag."""
    ends = list(_THINK_CLOSE.finditer(text))
    return text[ends[-1].end() :] if ends else text


def final_response(text: str) -> str | None:
    """Return the text after the thinking, or None if the thinking was never closed."""
    response = after_thinking(text)
    return None if THINK_OPEN.search(response) else response


def marked_answer(text: str) -> str | None:
    """Return the content of the last box or answer tag, else of the last ``####`` line.

    Empty if the box or the thinking is not closed. None if nothing is marked.
    """
    response = final_response(text)
    if response is None:
        return ""
    response = response[-MAX_TEXT:]
    boxes = list(_BOXED.finditer(response))
    tag = _tag_content(response)
    if tag is not None and (not boxes or boxes[-1].start() < tag[1]):
        inside = tag[0].strip()
        boxes = list(_BOXED.finditer(inside))
        return _box_content(inside, boxes) if boxes else inside[: MAX_ANSWER + 1]
    if boxes:
        return _box_content(response, boxes)
    lines = _HASHES.findall(response[-MAX_TAIL:])
    return lines[-1].strip() if lines else None


def after_statements(text: str) -> Iterator[str]:
    """Yield the text after each statement of an answer, last one first, then after each statement of a result."""
    response = final_response(text)
    if response is None:
        return
    tail = response[-MAX_TAIL:]
    for pattern in (_ANSWER_IS, _RESULT_IS):
        for match in reversed(list(pattern.finditer(tail))):
            yield tail[match.end() : match.end() + 2 * MAX_ANSWER]


def _tag_content(text: str) -> tuple[str, int] | None:
    """Return the content of the last ``<answer>...</answer>`` and the position where it ends, or None."""
    starts, ends = list(_ANSWER_OPEN.finditer(text)), list(_ANSWER_CLOSE.finditer(text))
    if not ends:
        return None
    before = [start for start in starts if start.end() <= ends[-1].start()]
    return (text[before[-1].end() : ends[-1].start()], ends[-1].end()) if before else None


def _box_content(text: str, boxes: list[re.Match[str]]) -> str:
    """Return the content of the last box, together with the boxes before it that form a list with it."""
    contents: list[str] = []
    next_start = None
    for box in reversed(boxes[-MAX_BOXES:]):
        braced = _braced_content(text, box.end()) if box[1] else (box[2].rstrip(".,"), 0)
        if braced is None:
            break
        content, length = braced
        if next_start is not None and not _BETWEEN_BOXES.fullmatch(text[box.end() + length : next_start]):
            break
        contents.append(content.strip())
        next_start = box.start()
    return ", ".join(reversed(list(dict.fromkeys(contents))))


def _braced_content(text: str, start: int) -> tuple[str, int] | None:
    """Return the text up to the brace that closes the one before ``start``, and its length with that brace.

    None if the brace is not closed within ``MAX_ANSWER`` characters.
    """
    depth = 1
    for position in range(start, min(len(text), start + MAX_ANSWER + 1)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return text[start:position], position + 1 - start
    return None


def _leading_answer(stated: str) -> str:
    """Return the answer at the start of the text after a statement; empty if there is none."""
    filler = _FILLER.match(stated)
    rest = stated[filler.end() :] if filler and "**" not in filler[0] else stated.lstrip(" \t\n:：,")
    for opening, closing in _DELIMITERS.items():
        if not rest.startswith(opening):
            continue
        end = rest.find(closing, len(opening))
        if end < 0:
            rest = rest[len(opening) :]
            break
        inside, after = rest[len(opening) : end].strip(), rest[end + len(closing) :]
        if opening in _FORMULA_DELIMITERS and (per_cent := _PER_CENT.match(after)):
            inside, after = inside + "\\%", after[per_cent.end() :]
        if opening in _FORMULA_DELIMITERS and (separator := _NEXT_FORMULA.match(after)):
            return f"{inside}, {_leading_answer(after[separator.end() :])}"
        return inside.rstrip(".") if opening not in _FORMULA_DELIMITERS else inside
    sentence_end = _SENTENCE_END.search(rest)
    return (rest[: sentence_end.start()] if sentence_end else rest).strip().strip("*").strip()[: MAX_ANSWER + 1]
