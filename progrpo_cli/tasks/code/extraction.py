"""The program in a completion: fences as CommonMark has them, and among several blocks the one that is the answer.

Linear in the length of the text; nothing is compiled here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from progrpo_cli.tasks.answers import THINKS, after_thinking

_FENCE = re.compile(r"(?P<before>.*?)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_PYTHON = re.compile(r"\s*\{?\.?(?:python|py|pypy)[\s\d.]*(?:$|[\s{:,}].*)", re.IGNORECASE)
_READS = re.compile(r"\binput\b|\bstdin\b|\bopen\(\s*0|\bos\.read\(|\bfileinput\b")
_SESSION = re.compile(r"\s*(?:>>>|In \[\d+\]:|\$ )")


@dataclass(frozen=True)
class Block:
    """What stands between two fences, or behind one that nothing closes."""

    info: str
    code: str
    is_closed: bool


def code_in(text: str, entry: str | None = None) -> str | None:
    """The program; None where there is none.

    Of what follows the thinking, the last block of Python that fits: with ``entry`` one that defines it, else one that
    reads its input, else any. Blocks without a language come after those of Python, sessions, shells and outputs after
    both. Without a fence the whole text is the program, without a closing one what follows it.
    """
    rest = after_thinking(text)
    if THINKS.match(rest.lstrip()):  # elsewhere it may be a text of the program
        return None
    found = blocks(rest)
    if not found:
        code = rest
    else:
        candidates = [block for block in found if block.is_closed] or found
        code = max(enumerate(candidates), key=lambda placed: (*_fit(placed[1], entry), placed[0]))[1].code
    code = code.removeprefix("\ufeff")
    return code if code.strip() else None


def blocks(text: str) -> list[Block]:
    """All fenced blocks in their order."""
    found: list[Block] = []
    lines = text.split("\n")
    pure = {i: line.strip() for i, line in enumerate(lines) if set(line.strip()) in ({"`"}, {"~"})}
    opened: tuple[str, str, int] | None = None  # the marks, the language, the indentation
    body: list[str] = []
    for i, line in enumerate(lines):
        fence = _FENCE.match(line) if "```" in line or "~~~" in line else None
        if opened is None:
            if fence and _opens(fence):
                opened, body = (fence["marks"], fence["info"].strip(), len(line) - len(line.lstrip())), []
            continue
        marks, info, indent = opened
        if i in pure and pure[i].startswith(marks):
            found.append(_block(info, body, indent, is_closed=True))
            opened = None
        elif fence and not fence["before"].strip() and fence["info"].strip() and fence["marks"] == marks:
            opened, body = (marks, fence["info"].strip(), len(line) - len(line.lstrip())), []  # the other was talk
        elif fence and fence["before"].strip() and fence["info"] == "" and fence["marks"] == marks:
            if not _closes_later(pure, i, marks):
                found.append(_block(info, [*body, fence["before"]], indent, is_closed=True))
                opened = None
            else:
                body.append(line)
        elif fence and fence["before"].strip() and _PYTHON.fullmatch(fence["info"]) and not "".join(body).strip():
            opened, body = (marks, fence["info"].strip(), 0), []
        else:
            body.append(line)
    if opened is not None:
        found.append(_block(opened[1], body, opened[2], is_closed=False))
    return found


def _opens(fence: re.Match[str]) -> bool:
    """A fence alone in its line, or at the end of one with a language or nothing behind it."""
    if not fence["before"].strip(" \t>*-+.0123456789"):
        return True
    return not fence["info"].strip() or _PYTHON.fullmatch(fence["info"]) is not None


def _closes_later(pure: dict[int, str], line: int, marks: str) -> bool:
    return any(place > line and said.startswith(marks) for place, said in pure.items())


def _block(info: str, body: list[str], indent: int, *, is_closed: bool) -> Block:
    lines = [line[min(indent, len(line) - len(line.lstrip(" "))) :] for line in body] if indent else body
    return Block(info, "\n".join(lines) + ("\n" if is_closed and lines else ""), is_closed)


def _fit(block: Block, entry: str | None) -> tuple[int, int]:
    """How likely a block is the program: by its language, and by what it does."""
    language = 2 if _PYTHON.fullmatch(block.info) else 1 if not block.info else 0
    if not block.code.strip() or _SESSION.match(block.code):
        return (0, 0)
    if entry is None:
        return (language, int(_READS.search(block.code) is not None))
    defines = re.search(rf"\b(?:def\s+{re.escape(entry)}\b|{re.escape(entry)}\s*=[^=])", block.code)
    return (language, int(defines is not None))
