"""A run that goes wrong says so while it runs: each of these once a run, on stderr and to the tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from progrpo_cli.config.schema import HealthConfig

Record = Mapping[str, Any]


class Health:
    """Looks at the logged steps of a run in their order.

    Args:
        limits: what is out of order, and for how many updates in a row.
        say: gets a title and a line.
        earlier: the steps that are logged already: what was said of them is not said again after a resume.
    """

    def __init__(self, limits: HealthConfig, say: Callable[[str, str], None], earlier: Iterable[Record] = ()) -> None:
        self._limits = limits
        self._in_a_row: dict[str, int] = {}
        self._said: set[str] = set()
        self._say: Callable[[str, str], None] = lambda title, text: None
        for record in earlier:
            self.look(record)
        self._say = say

    def look(self, record: Record) -> None:
        """Look at one logged step; a value that is missing or null is no news."""
        limits, step = self._limits, record["step"]
        entropy = record.get("entropy")
        self._count(
            "entropy is low",
            entropy is not None and entropy < limits.entropy_floor,
            limits.entropy_updates,
            f"update {step}: entropy has been below {limits.entropy_floor:g} nats for {limits.entropy_updates} updates "
            f"in a row (now {entropy}): the policy hardly explores any more",
        )
        self._count(
            "no group has variance",
            record.get("zero_variance_fraction") == 1.0,
            limits.no_variance_updates,
            f"update {step}: no group has variance in its rewards: the group-relative advantage is zero, and nothing "
            "is learned from it",
        )
        self._count(
            "all completions are truncated",
            record.get("truncated_fraction") == 1.0,
            limits.truncated_updates,
            f"update {step}: all completions are truncated: none ended within task.max_new_tokens",
        )
        truncated = record.get("truncated_fraction")
        self._count(
            "many completions are truncated",
            truncated is not None and limits.truncated_share < truncated < 1.0,
            limits.truncated_updates,
            f"update {step}: {truncated or 0:.0%} of the completions are truncated, which are worth 0: if they are "
            "too long, raise task.max_new_tokens; if text goes on behind answers, model.stop_tokens names their end",
        )

    def _count(self, title: str, is_so: bool, how_often: int, text: str) -> None:
        self._in_a_row[title] = self._in_a_row.get(title, 0) + 1 if is_so else 0
        if self._in_a_row[title] == how_often and title not in self._said:
            self._said.add(title)
            self._say(title, text)
