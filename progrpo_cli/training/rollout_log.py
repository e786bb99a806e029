"""Access to TRL's log of samples, which holds the newest rollout of all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trl import GRPOTrainer


class RolloutLogMixin(GRPOTrainer):  # type: ignore[misc]  # TRL is not typed
    """Columns: ``prompt``, ``completion``, ``advantages``, ``rewards/FUNCTION`` and, from methods, ``extra/NAME``."""

    def logged_rollout(self) -> dict[str, list[Any]]:
        """The columns that every rollout has, with one value per completion, in the order of the processes."""
        names = ["prompt", "completion", "advantages", *(f"rewards/{name}" for name in self.reward_func_names)]
        return {name: list(self._column(name)) for name in names}

    def extra_columns(self) -> dict[str, list[Any]]:
        """The columns added by methods."""
        return {name: list(values) for name, values in self._logs["extra"].items()}

    def log_rollout(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Replace the values of some columns; each has one value per completion of all processes."""
        for name, values in columns.items():
            self._column(name).extend(values)  # a deque with room for one rollout: the old values drop out

    def _column(self, name: str) -> Any:
        group, _, part = name.partition("/")
        return self._logs[group][part] if part else self._logs[name]
