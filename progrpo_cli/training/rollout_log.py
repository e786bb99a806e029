"""TRL's log of samples, which holds the newest rollout of all processes and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trl import GRPOTrainer


class LogsRollouts(GRPOTrainer):  # type: ignore[misc]  # TRL is not typed
    """Columns by name: ``prompt``, ``completion``, ``advantages``, ``rewards/FUNCTION``; of methods ``extra/NAME``."""

    def logged_rollout(self) -> dict[str, list[Any]]:
        """The columns that every rollout has: a value a completion, in the order of the processes."""
        names = ["prompt", "completion", "advantages", *(f"rewards/{name}" for name in self.reward_func_names)]
        return {name: list(self._column(name)) for name in names}

    def extra_columns(self) -> dict[str, list[Any]]:
        """What methods have added to them."""
        return {name: list(values) for name, values in self._logs["extra"].items()}

    def log_rollout(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Put values, one a completion of all processes, in the place of those that are there."""
        for name, values in columns.items():
            self._column(name).extend(values)  # as many as a column holds: the older ones fall out

    def _column(self, name: str) -> Any:
        group, _, part = name.partition("/")
        return self._logs[group][part] if part else self._logs[name]
