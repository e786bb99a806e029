"""Multiple choice: the letter of the right option."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Sequence

from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.answers import after_statements, extract_answer, final_response, marked_answer
from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.config import ChoiceConfig
from progrpo_cli.tasks.data import DatasetProblems, Row

_WRAPPED = re.compile(r"\\(?!sqrt|frac)[A-Za-z]+\s*\{([^{}]*)\}")
_LETTER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+|right\s+)?(?:option|choice|answer)\b(?:\s+is\b)?[\s*:]*)?[\[(<{'\"`‘“*$\s]*([A-Za-z])"
    r"(?:\s*[\])>}'\"`’”*$]|\s*[.:,;!?/。，；]|\s+(?=[(\[])|\s+[-–—]|\s+(?:because|since|as|so)\b|\s*$)",
    re.IGNORECASE,
)
"""A letter in any wrapping and the separator after it. Excludes the first letter of a word and the article "a"."""
_IS_RIGHT = re.compile(
    r"(?:\b(?:option|choice)\s+[\[(*]{0,3}([A-Za-z])[\])*]{0,3}|[\[(*]{1,3}([A-Z])[\])*]{1,3}|(?<![\w'])([B-Z]))\s+is\s+"
    r"(?:the\s+)?(?:correct|right|best|answer)\b"
)
_WORD = re.compile(r"[A-Za-z]+")
_BETWEEN = {"and", "or"}
_TAIL = 1_000


def extract_letter(text: str) -> str | None:
    r"""Return the letter in the last ``\boxed{}``, else after the last "answer is", else in "option B is correct".

    None if there is no letter, or several.
    """
    marked = marked_answer(text)
    if marked is not None:
        return _letter(extract_answer(marked) or marked)
    for stated in after_statements(text):
        if (letter := _letter(stated.strip().split("\n", 1)[0])) is not None:
            return letter
    named = list(_IS_RIGHT.finditer((final_response(text) or "")[-_TAIL:]))
    return next((group for group in named[-1].groups() if group), "").upper() or None if named else None


def _letter(answer: str) -> str | None:
    plain, before = answer.replace("\\(", " ").replace("\\)", " "), None
    while plain != before:  # commands such as \text and \mathbf are around the letter, or after it
        before = plain = plain.lstrip(" :：*$_>").rstrip()
        plain = _WRAPPED.sub(lambda command: f" ({command[1]})" if command.start() else f"{command[1]} ", plain)
    plain = plain.lstrip("\\ ")
    match = _LETTER.match(plain)
    if match is None:
        return None
    words = [word for word in _WORD.findall(plain[match.end(1) :].split("\n", 1)[0]) if word.lower() not in _BETWEEN]
    is_joined = re.match(r"[\])}*\s(]*(?:and|or)\b", plain[match.end(1) :]) is not None
    others = words[:1] if is_joined else words if match[0].rstrip()[-1:] in (",", ";", "/") else []
    if others and all(len(word) == 1 and word.isupper() for word in others):
        return None
    return match[1].upper()


class Choice:
    """Questions with lettered options."""

    canonical_forms = False

    def __init__(self, config: ChoiceConfig) -> None:
        """Create the task. Its data are read at the first call of :meth:`problems`."""
        self.name = config.label
        self.max_new_tokens = config.max_new_tokens
        self.chat = config.chat
        self._config = config
        self._data = DatasetProblems(config, self._read)
        self._right: dict[str, tuple[str, str]] = {}

    def problems(self, split: Split) -> list[Problem]:
        """Return the split's problems in the dataset's order.

        Raises:
            RequestError: a row lacks a field, or its answer is not one of its options. The message names the row.
        """
        return self._data.problems(split)

    def _read(self, row: Row, identifier: str) -> str:
        """Return the question with its options; store the right letter and all letters."""
        if self._config.fields.wrong is not None:
            right = row.text("answer")
            wrong = [row.text_of(name, "wrong") for name in self._config.fields.wrong]
            options = sorted([right, *wrong], key=lambda option: _order(identifier, option))
            letter = string.ascii_uppercase[options.index(right)]
        else:
            options, letter = row.value("options"), row.text("answer").strip().upper()
            if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
                raise RequestError(f"{row.place}: {self._config.fields.options} is not a list of texts")
        letters = string.ascii_uppercase[: len(options)]
        if len(letter) != 1 or letter not in letters:
            raise RequestError(f"{row.place}: the answer {letter!r} is not one of the {len(options)} options")
        self._right[identifier] = (letter, letters)
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(letters, options, strict=False))
        return f"{row.text('question')}\n\n{listed}"

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Judge by the letter; ``unparseable`` if the answer does not name one of the options."""
        return [self._verdict(attempt) for attempt in attempts]

    def _verdict(self, attempt: Attempt) -> Verdict:
        if not attempt.finished:
            return "truncated"
        right, letters = self._right[attempt.problem.id]
        letter = extract_letter(attempt.text)
        if letter is None or letter not in letters:
            return "unparseable"
        return "correct" if letter == right else "wrong"

    def canonical(self, problem: Problem, text: str) -> None:
        """Return None: there is only one right option."""


def _order(identifier: str, option: str) -> bytes:
    return hashlib.sha256(f"{identifier}:{option}".encode("utf-8", "surrogatepass")).digest()
