"""The lab's task: write an expression over four given numbers that equals the target."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.countdown import expression, problems
from progrpo_cli.tasks.countdown.ways import expression_of, tries_of


def prompt_of(key: problems.Key) -> str:
    """The prompt of the lab's base policy, e.g. ``3 5 7 12=24:``."""
    chosen, target = key
    return f"{' '.join(map(str, chosen))}={target}:"


def question_of(key: problems.Key) -> str:
    """The prompt in words, for instruction-tuned models."""
    chosen, target = key
    listed = f"{', '.join(map(str, chosen[:-1]))} and {chosen[-1]}"
    return (
        f"Write an expression that equals {target}. Use each of the numbers {listed} exactly once, with +, -, * and "
        f"parentheses. Put the expression alone on the last line."
    )


def answer_in(text: str) -> str:
    """The expression in an answer of several lines: the last line that is not blank, left of any ``=``."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].partition("=")[0].strip() if lines else ""


class Countdown:
    """``countdown``: exact integer arithmetic, many correct expressions a problem."""

    name = "countdown"
    canonical_forms = True

    def __init__(self, max_new_tokens: int, limits: dict[Split, int | None], *, chat: bool = False) -> None:
        """Make the task.

        Args:
            max_new_tokens: completion limit.
            limits: how many problems of each split are used (None: all of them).
            chat: ask in words through a chat template; else the prompt is ``3 5 7 12=24:``.
        """
        self.max_new_tokens = max_new_tokens
        self.chat = chat
        self._limits = limits

    def problems(self, split: Split) -> list[Problem]:
        """The first ``limits[split]`` problems of the split in hash order."""
        worded = question_of if self.chat else prompt_of
        chosen = problems.keys_of(split)[: self._limits[split]]
        return [Problem(problems.problem_id(key), worded(key)) for key in chosen]

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """``truncated`` without an end-of-sequence, else whether the expression parses, fits the numbers and hits."""
        # A policy repeats itself. Keys of strings: hashing an attempt, a dataclass of dataclasses, takes longer.
        keys = [(attempt.problem.id, attempt.text, attempt.finished) for attempt in attempts]
        unique = {key: self._verdict(attempt) for key, attempt in dict(zip(keys, attempts, strict=True)).items()}
        return [unique[key] for key in keys]

    def _verdict(self, attempt: Attempt) -> Verdict:
        if not attempt.finished:
            return "truncated"
        chosen, target = _key(attempt.problem.id)
        try:
            found = self._read(attempt.text)
        except expression.ParseError:
            return "unparseable"
        return "correct" if found and found.value == target and found.numbers == chosen else "wrong"

    def canonical(self, problem: Problem, text: str) -> str:
        """See :class:`progrpo_cli.tasks.countdown.expression.Reading`; false steps are as they are written."""
        found = self._read(text)
        return found.canonical if found else tries_of(text)[-1]

    def _read(self, text: str) -> expression.Reading | None:
        """None: a step has another value than the answer says."""
        counted = answer_in(text) if self.chat else expression_of(text)
        return None if counted is None else expression.read(counted)


@lru_cache(maxsize=64)  # attempts at a problem stand together
def _key(identifier: str) -> problems.Key:
    *chosen, target = (int(part) for part in identifier.split("_"))
    return tuple(chosen), target
