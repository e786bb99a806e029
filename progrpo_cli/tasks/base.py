"""What every task offers: problems with stable ids, prompts, verdicts and, where it exists, a canonical form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Split = Literal["rl", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Verdict = Literal["correct", "wrong", "unparseable", "timeout", "memory", "truncated", "error"]
"""``memory``: the program's or answer's limit; ``error``: our judge failed, so that nothing is known of the answer."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Problem:
    """One problem. ``id`` is stable across versions and unique within a task."""

    id: str
    prompt: str
    """The text that the policy continues; for a task with ``chat``, what the user says."""
    judged_by: str = ""
    """Digest of all else that decides a verdict (the reference, the tests); empty where the id says it."""


@dataclass(frozen=True)
class Attempt:
    """A completion to be judged."""

    problem: Problem
    text: str
    finished: bool
    """Whether the policy ended it (end-of-sequence); false: the token limit did."""


class Task(Protocol):
    """A set of problems with checkable answers."""

    name: str
    max_new_tokens: int
    chat: bool
    """Whether prompts go through the tokenizer's chat template."""
    canonical_forms: bool
    """Whether solutions have canonical forms; without them diversity is not measured, whatever was sampled."""

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of a split in a fixed, documented order (the splits share no id).

        Raises:
            RequestError: the data cannot be read; names the file and line, or the row.
        """

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Judge completions, in their order; a task that judges in other processes does so side by side.

        ``truncated`` is whatever the policy did not end. An answer never raises: it is wrong, ``unparseable``,
        ``timeout`` or ``memory`` if judging it ran out of that limit, or an ``error`` where the judge itself failed.
        """

    def canonical(self, problem: Problem, text: str) -> str | None:
        """The canonical form of an answer judged ``correct`` or ``wrong``, or None where the task has no such form."""
