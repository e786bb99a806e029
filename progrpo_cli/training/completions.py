"""The last rollouts as they were trained on: a table each of what was sampled and what it was worth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from progrpo_cli import processes
from progrpo_cli.records import files
from progrpo_cli.training.rollout_log import LogsRollouts


class CompletionTables(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """``completions/update-000013.jsonl``: a line a sample of the rollout that update 13 was the first to be made on.

    Each line: ``update, prompt, completion, rewards`` (by reward function) and ``A``, the advantage; with ARM also
    ``c(q), c(o|q)`` and ``A~``, what ARM made of A.

    Args:
        directory: of the tables; those of updates after ``resumed_at``, which a crash took back, are removed.
        keep: so many are kept, the newest ones; 0: none is written.
        trainer: whose log of samples is written, after the metrics of the rollout are complete.
    """

    def __init__(
        self, directory: Path, *, keep: int, trainer: LogsRollouts, updates_per_rollout: int, resumed_at: int
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
        # TRL's own (`tracking.completions`), one an update, the next of which it writes after this: as many rollouts.
        kept_of_trl = max(self._keep, 1) * self._updates_per_rollout
        for table in sorted((Path(args.output_dir) / "completions").glob("*.parquet"))[: 1 - kept_of_trl or None]:
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
                "rewards": {name: _number(values[row]) for name, values in rewards.items()},
                **{name: _number(column[row]) for name, column in columns.items()},
            }
            for row, (prompt, completion) in enumerate(zip(logged["prompt"], logged["completion"], strict=True))
        ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
