"""Extract the program from a completion: find fenced blocks as in CommonMark, and choose the one that is the answer.

Takes linear time and compiles nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from progrpo_cli.tasks.answers import THINK_OPEN, after_thinking

_FENCE = re.compile(r"(?P<before>.*?)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_PYTHON = re.compile(r"\s*\{?\.?(?:python|py|pypy)[\s\d.]*(?:$|[\s{:,}].*)", re.IGNORECASE)
_READS = re.compile(r"\binput\b|\bstdin\b|\bopen\(\s*0|\bos\.read\(|\bfileinput\b")
_SESSION = re.compile(r"\s*(?:>>>|In \[\d+\]:|\$ )")


@dataclass(frozen=True)
class Block:
    """The text between two fences, or after a fence that is not closed."""

    info: str
    code: str
    is_closed: bool


def extract_code(text: str, entry: str | None = None) -> str | None:
    """Return the program, or None if there is none.

    Only blocks after the thinking count. Blocks of Python come first, then blocks without a language; sessions, shells
    and outputs come last. Among these, blocks that define ``entry`` are preferred or, without ``entry``, blocks that
    read input; and of several such blocks the last. Without any fence the whole text is the program; without a closing
    fence, the text after the opening one.
    """
    response = after_thinking(text)
    if THINK_OPEN.match(response.lstrip()):  # elsewhere the tag may be a string in the program
        return None
    blocks = find_blocks(response)
    if not blocks:
        code = response
    else:
        candidates = [block for block in blocks if block.is_closed] or blocks
        code = max(enumerate(candidates), key=lambda item: (*_score(item[1], entry), item[0]))[1].code
    code = code.removeprefix("\ufeff")
    return code if code.strip() else None


def find_blocks(text: str) -> list[Block]:
    """Return all fenced blocks in order."""
    blocks: list[Block] = []
    lines = text.split("\n")
    closing_fences = {i: line.strip() for i, line in enumerate(lines) if set(line.strip()) in ({"`"}, {"~"})}
    opened: tuple[str, str, int] | None = None  # the open block's marks, language and indentation
    body: list[str] = []
    for i, line in enumerate(lines):
        fence = _FENCE.match(line) if "```" in line or "~~~" in line else None
        if opened is None:
            if fence and _opens(fence):
                opened, body = (fence["marks"], fence["info"].strip(), len(line) - len(line.lstrip())), []
            continue
        marks, info, indent = opened
        if i in closing_fences and closing_fences[i].startswith(marks):
            blocks.append(_make_block(info, body, indent, is_closed=True))
            opened = None
        elif fence and not fence["before"].strip() and fence["info"].strip() and fence["marks"] == marks:
            opened, body = (marks, fence["info"].strip(), len(line) - len(line.lstrip())), []  # drop the block so far
        elif fence and fence["before"].strip() and fence["info"] == "" and fence["marks"] == marks:
            if not _closes_later(closing_fences, i, marks):
                blocks.append(_make_block(info, [*body, fence["before"]], indent, is_closed=True))
                opened = None
            else:
                body.append(line)
        elif fence and fence["before"].strip() and _PYTHON.fullmatch(fence["info"]) and not "".join(body).strip():
            opened, body = (marks, fence["info"].strip(), 0), []
        else:
            body.append(line)
    if opened is not None:
        blocks.append(_make_block(opened[1], body, opened[2], is_closed=False))
    return blocks


def _opens(fence: re.Match[str]) -> bool:
    """Whether a fence opens a block: it begins its line, or it ends its line with Python or no language after it."""
    if not fence["before"].strip(" \t>*-+.0123456789"):
        return True
    return not fence["info"].strip() or _PYTHON.fullmatch(fence["info"]) is not None


def _closes_later(closing_fences: dict[int, str], line: int, marks: str) -> bool:
    return any(i > line and fence.startswith(marks) for i, fence in closing_fences.items())


def _make_block(info: str, body: list[str], indent: int, *, is_closed: bool) -> Block:
    lines = [line[min(indent, len(line) - len(line.lstrip(" "))) :] for line in body] if indent else body
    return Block(info, "\n".join(lines) + ("\n" if is_closed and lines else ""), is_closed)


def _score(block: Block, entry: str | None) -> tuple[int, int]:
    """Rate how likely a block is the program, by its language and its content."""
    language = 2 if _PYTHON.fullmatch(block.info) else 1 if not block.info else 0
    if not block.code.strip() or _SESSION.match(block.code):
        return (0, 0)
    if entry is None:
        return (language, int(_READS.search(block.code) is not None))
    defines = re.search(rf"\b(?:def\s+{re.escape(entry)}\b|{re.escape(entry)}\s*=[^=])", block.code)
    return (language, int(defines is not None))
