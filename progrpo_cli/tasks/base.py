"""The interface of a task: problems with stable ids, prompts, verdicts and, for some tasks, canonical forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Split = Literal["rl", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Verdict = Literal["correct", "wrong", "unparseable", "timeout", "memory", "truncated", "error"]
"""``memory``: judging reached its memory limit. ``error``: our judge failed, so the answer was not judged."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Problem:
    """One problem. ``id`` is stable across versions and unique within a task."""

    id: str
    prompt: str
    """The text that the policy continues; for a task with ``chat``, the user's message."""
    judged_by: str = ""
    """Digest of everything else that decides a verdict (reference, tests); empty if the id determines it."""


@dataclass(frozen=True)
class Attempt:
    """A completion to judge."""

    problem: Problem
    text: str
    finished: bool
    """Whether the completion ends with an end-of-sequence token; false if the token limit cut it."""


class Task(Protocol):
    """A set of problems with checkable answers."""

    name: str
    max_new_tokens: int
    chat: bool
    """Whether prompts go through the tokenizer's chat template."""
    canonical_forms: bool
    """Whether solutions have canonical forms. Without them, diversity cannot be measured."""

    def problems(self, split: Split) -> Sequence[Problem]:
        """Return the problems of a split in a fixed, documented order. No id occurs in two splits.

        Raises:
            RequestError: the data cannot be read. The message names the file and line, or the row.
        """

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Judge completions; the verdicts are in the same order. Tasks that use other processes judge in parallel.

        An attempt that is not finished is ``truncated``. No answer makes this raise: it is ``wrong``,
        ``unparseable``, ``timeout`` or ``memory`` if judging it reached that limit, or ``error`` if the judge failed.
        """

    def canonical(self, problem: Problem, text: str) -> str | None:
        """Return the canonical form of an answer judged ``correct`` or ``wrong``; None if the task has none."""
