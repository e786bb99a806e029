"""Tables of the last rollouts: each sample with its rewards and its advantage."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from progrpo_cli import processes
from progrpo_cli.records import files
from progrpo_cli.training.rollout_log import RolloutLogMixin


class CompletionTables(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Writes ``completions/update-000013.jsonl``, one line per sample of the rollout that update 13 was first made on.

    Each line has ``update, prompt, completion, rewards`` (by reward function) and ``A``, the advantage; with ARM also
    ``c(q), c(o|q)`` and ``A~``, the advantage after ARM.

    Args:
        directory: directory of the tables. Tables of updates after ``resumed_at``, which a crash undid, are removed.
        keep: number of tables to keep; 0 writes none.
        trainer: its log of samples is written. The callback runs after the one that completes the rollout's metrics.
        updates_per_rollout: updates that are made on each rollout.
        resumed_at: the update that training continues after; 0 for a new run.
    """

    def __init__(
        self, directory: Path, *, keep: int, trainer: RolloutLogMixin, updates_per_rollout: int, resumed_at: int
    ) -> None:
        self._directory = directory
        self._keep = keep
        self._trainer = trainer
        self._updates_per_rollout = updates_per_rollout
        for table in self._tables() if processes.is_main() else []:
            if int(table.stem.removeprefix("update-")) > resumed_at:
                table.unlink()

    def _tables(self) -> list[Path]:
        return sorted(self._directory.glob("update-*.jsonl"))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not (state.is_world_process_zero and logs and "loss" in logs):
            return
        # TRL's own tables (`tracking.completions`), one per update, are kept for as many rollouts. TRL writes the table
        # of this update after this callback, hence the 1.
        trl_tables = max(self._keep, 1) * self._updates_per_rollout
        for table in sorted((Path(args.output_dir) / "completions").glob("*.parquet"))[: 1 - trl_tables or None]:
            table.unlink()
        is_first = (state.global_step - 1) % self._updates_per_rollout == 0
        if not (self._keep and is_first):
            return
        lines = [json.dumps({"update": state.global_step, **row}, allow_nan=False) for row in self._rows()]
        files.write_text(self._directory / f"update-{state.global_step:06d}.jsonl", "\n".join([*lines, ""]))
        for table in self._tables()[: -self._keep]:
            table.unlink()

    def _rows(self) -> list[dict[str, Any]]:
        logged = self._trainer.logged_rollout()
        rewards = {name.removeprefix("rewards/"): values for name, values in logged.items() if "/" in name}
        columns = {"A": logged["advantages"], **self._trainer.extra_columns()}
        return [
            {
                "prompt": prompt,
                "completion": completion,
                "rewards": {name: _nan_to_none(values[row]) for name, values in rewards.items()},
                **{name: _nan_to_none(column[row]) for name, column in columns.items()},
            }
            for row, (prompt, completion) in enumerate(zip(logged["prompt"], logged["completion"], strict=True))
        ]


def _nan_to_none(value: float) -> float | None:
    return None if math.isnan(value) else value
