"""Health checks during a training run. Each warning is given once per run, on stderr and to the tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from progrpo_cli.config.schema import HealthConfig

Record = Mapping[str, Any]


class Health:
    """Checks the logged updates of a run, in order.

    Args:
        limits: the values that cause a warning, and for how many updates in a row.
        warn: called with the title and the text of a warning.
        earlier: updates logged before a resume. Their warnings are not repeated.
    """

    def __init__(self, limits: HealthConfig, warn: Callable[[str, str], None], earlier: Iterable[Record] = ()) -> None:
        self._limits = limits
        self._streaks: dict[str, int] = {}
        self._reported: set[str] = set()
        self._warn: Callable[[str, str], None] = lambda title, text: None
        for record in earlier:
            self.check(record)
        self._warn = warn

    def check(self, record: Record) -> None:
        """Check one logged update. A value that is missing or null counts as healthy."""
        limits, step = self._limits, record["step"]
        entropy = record.get("entropy")
        self._count(
            "entropy is low",
            entropy is not None and entropy < limits.entropy_floor,
            limits.entropy_updates,
            f"update {step}: entropy has been below {limits.entropy_floor:g} nats for {limits.entropy_updates} updates "
            f"in a row (now {entropy}): the policy has almost stopped exploring",
        )
        self._count(
            "no group has variance",
            record.get("zero_variance_fraction") == 1.0,
            limits.no_variance_updates,
            f"update {step}: no group has variance in its rewards: the group-relative advantage is zero, so it gives "
            "no gradient",
        )
        self._count(
            "all completions are truncated",
            record.get("truncated_fraction") == 1.0,
            limits.truncated_updates,
            f"update {step}: all completions are truncated: no completion ended within task.max_new_tokens",
        )
        truncated = record.get("truncated_fraction")
        self._count(
            "many completions are truncated",
            truncated is not None and limits.truncated_share < truncated < 1.0,
            limits.truncated_updates,
            f"update {step}: {truncated or 0:.0%} of the completions are truncated, and their reward is 0: if they are "
            "too long, raise task.max_new_tokens; if text follows the answer, list its end token in model.stop_tokens",
        )

    def _count(self, title: str, condition: bool, updates: int, text: str) -> None:
        self._streaks[title] = self._streaks.get(title, 0) + 1 if condition else 0
        if self._streaks[title] == updates and title not in self._reported:
            self._reported.add(title)
            self._warn(title, text)
