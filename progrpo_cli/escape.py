"""Names, configuration values and model outputs are untrusted text: each output format has its own dangers."""

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
    "[": "{[}",  # after \\ a bracket would be an argument
    "]": "{]}",
    **{character: f"\\{character}" for character in "{}$&#_%"},
}
_LATIN = 0x17F  # the last of Latin Extended-A
_NOT_IN_T1 = frozenset("ĦħĸĿŀŉŦŧſ")  # of Latin Extended-A; pdflatex stops at them
_MARKDOWN = re.compile(r"([\\|`*_<>\[\]~])")


def plain(text: str) -> str:
    """Without control and formatting characters (terminal escapes, direction overrides); line ends become spaces."""
    if text.isprintable():  # no control or formatting character, no white space but the space
        return text
    spaced = re.sub(r"\s", " ", text)
    return "".join(character for character in spaced if not unicodedata.category(character).startswith("C"))


def plain_lines(text: str) -> str:
    """The same for a text of several lines, which it keeps."""
    return text if text.isprintable() else "\n".join(map(plain, text.split("\n")))


def csv(text: str) -> str:
    """A spreadsheet must not take text for a formula, also not after leading spaces, which some cut off."""
    clean = plain(text)
    return f"'{clean}" if clean.lstrip().startswith(_FORMULA) else clean


def latex(text: str) -> str:
    """Every special character as text; those that no usual font of TeX has by their numbers."""
    return "".join(
        _LATEX.get(character, character if _in_t1(character) else rf"{{[}}U+{ord(character):04X}{{]}}")
        for character in plain(text)
    )


def _in_t1(character: str) -> bool:
    return ord(character) <= _LATIN and character not in _NOT_IN_T1


def markdown(text: str) -> str:
    """No cell breaks, no markup, no HTML."""
    return _MARKDOWN.sub(r"\\\1", plain(text))
