"""Escape untrusted text (names, configuration values, model outputs) for the terminal, CSV, LaTeX and Markdown."""

from __future__ import annotations

import re
import unicodedata

_FORMULA = ("=", "+", "-", "@")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ a bracket would start an optional argument
    "]": "{]}",
    **{character: f"\\{character}" for character in "{}$&#_%"},
}
_LAST_LATIN = 0x17F  # the end of Latin Extended-A
_NOT_IN_T1 = frozenset("ĦħĸĿŀŉŦŧſ")  # characters of Latin Extended-A at which pdflatex stops
_MARKDOWN = re.compile(r"([\\|`*_<>\[\]~])")


def plain(text: str) -> str:
    """Remove control and formatting characters (terminal escapes, direction overrides); line ends become spaces."""
    if text.isprintable():  # it has no control or formatting characters, and spaces are its only white space
        return text
    spaced = re.sub(r"\s", " ", text)
    return "".join(character for character in spaced if not unicodedata.category(character).startswith("C"))


def plain_lines(text: str) -> str:
    """Apply :func:`plain` to each line and keep the line ends."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))


def csv(text: str) -> str:
    """Quote text that a spreadsheet would read as a formula, also after leading spaces, which some strip."""
    clean = plain(text)
    return f"'{clean}" if clean.lstrip().startswith(_FORMULA) else clean


def latex(text: str) -> str:
    """Escape special characters; characters outside the T1 encoding become ``[U+XXXX]``."""
    return "".join(
        _LATEX.get(character, character if _in_t1(character) else rf"{{[}}U+{ord(character):04X}{{]}}")
        for character in plain(text)
    )


def _in_t1(character: str) -> bool:
    return ord(character) <= _LAST_LATIN and character not in _NOT_IN_T1


def markdown(text: str) -> str:
    """Escape cell separators, markup and HTML."""
    return _MARKDOWN.sub(r"\\\1", plain(text))
