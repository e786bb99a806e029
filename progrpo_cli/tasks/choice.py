"""Multiple choice: the letter of the right option."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Sequence

from progrpo_cli.errors import RequestError
from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.config import ChoiceConfig
from progrpo_cli.tasks.data import DatasetProblems, Row
from progrpo_cli.tasks.maths.guard import answer_in

_LETTER = re.compile(
    r"(?:\\(?!sqrt)[A-Za-z]+\s*\{\s*)*(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\b[\s*:]*)?\\?[\[(]?[\s*]*([A-Za-z])"
    r"\s*(?:\}(?!\s*\{)|[\]).:,\\]|\*+(?!\w)|(?<=\s)[-–—]|$)"
)
"""A letter, however it is wrapped, and what parts it from more text; it is no word's first, and no article."""
_WORD = re.compile(r"[A-Za-z]+")
_BETWEEN = {"and", "or", "text", "textbf", "textrm", "mathrm", "mathbf"}


def letter_in(text: str) -> str | None:
    r"""The letter in the last ``\boxed{}``, else after the last "answer is"; None without one, or with several."""
    answer = (answer_in(text) or "").strip("$* ")
    found = _LETTER.match(answer)
    if found is None:
        return None
    if found[0][-1] in ",\\":
        words = [word for word in _WORD.findall(answer[found.end(1) :]) if word not in _BETWEEN]
        if words and all(len(word) == 1 and word.isupper() for word in words):
            return None
    return found[1].upper()


class Choice:
    """Questions with lettered options."""

    canonical_forms = False

    def __init__(self, config: ChoiceConfig) -> None:
        """Take the task; nothing is read yet."""
        self.name = config.label
        self.max_new_tokens = config.max_new_tokens
        self.chat = config.chat
        self._config = config
        self._data = DatasetProblems(config, self._read)
        self._right: dict[str, tuple[str, str]] = {}

    def problems(self, split: Split) -> list[Problem]:
        """The split's problems in the dataset's order.

        Raises:
            RequestError: a row lacks a field, or its answer is none of its options; names the row.
        """
        return self._data.problems(split)

    def _read(self, row: Row, identifier: str) -> str:
        """The question with its options; keeps the right letter and all letters there are."""
        if self._config.fields.wrong is not None:
            right = row.text("answer")
            wrong = [row.named(name, "wrong") for name in self._config.fields.wrong]
            options = sorted([right, *wrong], key=lambda option: _order(identifier, option))
            letter = string.ascii_uppercase[options.index(right)]
        else:
            options, letter = row.value("options"), row.text("answer").strip().upper()
            if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
                raise RequestError(f"{row.place}: {self._config.fields.options} is not a list of texts")
        letters = string.ascii_uppercase[: len(options)]
        if len(letter) != 1 or letter not in letters:
            raise RequestError(f"{row.place}: the answer {letter!r} is none of the {len(options)} options")
        self._right[identifier] = (letter, letters)
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(letters, options, strict=False))
        return f"{row.text('question')}\n\n{listed}"

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """``unparseable`` for what names none of the options."""
        return [self._verdict(attempt) for attempt in attempts]

    def _verdict(self, attempt: Attempt) -> Verdict:
        if not attempt.finished:
            return "truncated"
        right, letters = self._right[attempt.problem.id]
        letter = letter_in(attempt.text)
        if letter is None or letter not in letters:
            return "unparseable"
        return "correct" if letter == right else "wrong"

    def canonical(self, problem: Problem, text: str) -> None:
        """None: there is one right option."""


def _order(identifier: str, option: str) -> bytes:
    return hashlib.sha256(f"{identifier}:{option}".encode("utf-8", "surrogatepass")).digest()
