"""The lab's task: write an expression over four given numbers that equals the target."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from progrpo_cli.tasks.base import Attempt, Problem, Split, Verdict
from progrpo_cli.tasks.countdown import expression, problems
from progrpo_cli.tasks.countdown.styles import expression_of, split_tries


def prompt_of(key: problems.Key) -> str:
    """Return the prompt for the lab's base policy, e.g. ``3 5 7 12=24:``."""
    numbers, target = key
    return f"{' '.join(map(str, numbers))}={target}:"


def question_of(key: problems.Key) -> str:
    """Return the prompt in words, for instruction-tuned models."""
    numbers, target = key
    listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    return (
        f"Write an expression that equals {target}. Use each of the numbers {listed} exactly once, with +, -, * and "
        f"parentheses. Put the expression alone on the last line."
    )


def extract_answer(text: str) -> str:
    """Return the expression in an answer of several lines: the last non-blank line, up to any ``=``."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].partition("=")[0].strip() if lines else ""


class Countdown:
    """The task ``countdown``: exact integer arithmetic, with many correct expressions per problem."""

    name = "countdown"
    canonical_forms = True

    def __init__(self, max_new_tokens: int, limits: dict[Split, int | None], *, chat: bool = False) -> None:
        """Create the task.

        Args:
            max_new_tokens: completion limit in tokens.
            limits: number of problems used from each split (None: all).
            chat: ask in words through a chat template; else the prompt is ``3 5 7 12=24:``.
        """
        self.max_new_tokens = max_new_tokens
        self.chat = chat
        self._limits = limits

    def problems(self, split: Split) -> list[Problem]:
        """Return the first ``limits[split]`` problems of the split in the order of :func:`problems.keys_of`."""
        make_prompt = question_of if self.chat else prompt_of
        keys = problems.keys_of(split)[: self._limits[split]]
        return [Problem(problems.problem_id(key), make_prompt(key)) for key in keys]

    def verdicts(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """``correct`` if the expression uses exactly the given numbers and equals the target."""
        # Policies repeat answers, so each distinct one is judged once. Tuples hash faster than attempts.
        keys = [(attempt.problem.id, attempt.text, attempt.finished) for attempt in attempts]
        unique = {key: self._verdict(attempt) for key, attempt in dict(zip(keys, attempts, strict=True)).items()}
        return [unique[key] for key in keys]

    def _verdict(self, attempt: Attempt) -> Verdict:
        if not attempt.finished:
            return "truncated"
        numbers, target = _key(attempt.problem.id)
        try:
            parsed = self._parse(attempt.text)
        except expression.ParseError:
            return "unparseable"
        return "correct" if parsed and parsed.value == target and parsed.numbers == numbers else "wrong"

    def canonical(self, problem: Problem, text: str) -> str:
        """See :class:`progrpo_cli.tasks.countdown.expression.Parsed`. Steps with a false value are left as they are."""
        parsed = self._parse(text)
        return parsed.canonical if parsed else split_tries(text)[-1]

    def _parse(self, text: str) -> expression.Parsed | None:
        """Parse an answer. None if a step states a false value, or the steps do not fit the name of the style."""
        answer = extract_answer(text) if self.chat else expression_of(text)
        return None if answer is None else expression.parse(answer)


@lru_cache(maxsize=64)  # attempts at the same problem are adjacent
def _key(identifier: str) -> problems.Key:
    *numbers, target = (int(part) for part in identifier.split("_"))
    return tuple(numbers), target
