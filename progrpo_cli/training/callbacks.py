"""Trainer callbacks: write metrics after an update, decide when a checkpoint is safe, stop cleanly on a signal."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from progrpo_cli import processes
from progrpo_cli.config.schema import HealthConfig
from progrpo_cli.console import Progress, log
from progrpo_cli.records import files
from progrpo_cli.tracking.wandb_run import Tracker
from progrpo_cli.training.health import Health

# From TRL's names to ours. Metrics of the rollout are logged by TRL only on the update that sampled it; we repeat them
# on the later updates made on the same rollout.
ROLLOUT_METRICS = {
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "zero_variance_fraction",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated_fraction",
    "sampling/sampling_logp_difference/mean": "sampling_logp_difference",
    "sampling/importance_sampling_ratio/mean": "importance_sampling_ratio",
}
UPDATE_METRICS = {
    "entropy": "entropy",
    "clip_ratio/region_mean": "clip_fraction",
    "clip_ratio/low_mean": "clip_fraction_low",
    "clip_ratio/high_mean": "clip_fraction_high",
    "grad_norm": "grad_norm",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "kl": "kl",
}
ROLLOUT_PREFIXES = ("rewards", "sampling")
"""Other metrics of TRL with these prefixes describe the rollout too."""


class MetricsWriter(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Writes the metrics of each update to ``metrics.jsonl``, the tracker and the progress display.

    Each line is flushed and synced to the disk.

    Args:
        path: ``metrics.jsonl``. Lines of updates after ``resumed_at``, which a crash undid, are removed first.
        tracker: receives the same metrics.
        progress: shows the last update.
        rollout_metrics: returns ARM's metrics, Pass@k and the sample totals of the current rollout.
        method: name of the run's method, which is the prefix of the metrics it logs.
        validate: computes the held-out scores.
        eval_every: number of updates between two validations; 0 disables them.
        resumed_at: the update that training continues after; 0 for a new run.
        health: limits of the health checks.
        watch: called with each line after it is written. An exception from it ends the run.
    """

    def __init__(
        self,
        path: Path,
        *,
        tracker: Tracker,
        progress: Progress,
        rollout_metrics: Callable[[], Mapping[str, float | None]],
        method: str,
        validate: Callable[[], dict[str, float]],
        eval_every: int,
        resumed_at: int,
        health: HealthConfig,
        watch: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        earlier = [record for record in files.read_lines(path) if record["step"] <= resumed_at]
        files.write_text(path, "".join(json.dumps(record) + "\n" for record in earlier))
        self._file = path.open("a", encoding="utf-8")
        tracker.catch_up(earlier)
        self._tracker = tracker
        self._health = Health(health, self._warn, earlier=earlier)
        self._progress = progress
        self._rollout_metrics = rollout_metrics
        self._method = method
        self._validate = validate
        self._eval_every = eval_every
        self._watch = watch
        self._rollout_values: dict[str, Any] = {}
        self._validation: dict[str, float] = {}
        self._started_at = 0.0
        self._step_seconds = 0.0
        self._train_seconds = math.fsum(record.get("step_seconds", 0.0) for record in earlier)

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._started_at = time.perf_counter()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._step_seconds = time.perf_counter() - self._started_at
        if self._eval_every and state.global_step % self._eval_every == 0:
            self._validation = self._validate()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or "loss" not in logs:  # the Trainer's summary at the end
            return
        self._train_seconds += self._step_seconds
        self._rollout_values.update({ours: logs[theirs] for theirs, ours in ROLLOUT_METRICS.items() if theirs in logs})
        self._rollout_values.update(_with_prefix(logs, ROLLOUT_PREFIXES))
        record = {
            "step": state.global_step,
            **self._rollout_values,
            **{ours: logs[theirs] for theirs, ours in UPDATE_METRICS.items() if theirs in logs},
            **_with_prefix(logs, (self._method,)),
            "step_seconds": self._step_seconds,
            "train_seconds": round(self._train_seconds, 3),
            **self._rollout_metrics(),
            **self._validation,
        }
        self._validation = {}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._tracker.log(record)
        self._health.check(record)
        self._progress.update(
            state.global_step,
            f"reward {record['reward']:.3f}, entropy {record['entropy']:.3f}, {self._step_seconds:.2f} s/update",
        )
        if self._watch is not None:
            self._watch(record)

    def _warn(self, title: str, text: str) -> None:
        log.warning(text)
        self._tracker.alert(title, text)

    def close(self) -> None:
        """Close ``metrics.jsonl``. Errors are ignored: each line was synced when it was written."""
        with suppress(OSError):
            self._file.close()


def _with_prefix(logs: dict[str, Any], prefixes: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in logs.items() if name.partition("/")[0] in prefixes}


class MetricsFollower(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Takes part in the collective calls of :class:`MetricsWriter` on the processes that write nothing."""

    def __init__(
        self, *, rollout_metrics: Callable[[], object], validate: Callable[[], object], eval_every: int
    ) -> None:
        self._rollout_metrics = rollout_metrics
        self._validate = validate
        self._eval_every = eval_every

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if self._eval_every and state.global_step % self._eval_every == 0:
            self._validate()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is not None and "loss" in logs:
            self._rollout_metrics()

    def close(self) -> None:
        """Do nothing: no file is open."""


class CheckpointPolicy(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Decides when a checkpoint is safe: only on a rollout boundary, because TRL does not save its rollout buffer.

    A signal to one process, or ``must_stop`` on one process, stops all of them at the same boundary.

    Args:
        save_every: number of updates between two checkpoints, at least; they wait for the next boundary.
        updates_per_rollout: a boundary is after each multiple of this number of updates.
        resumed_at: the update of the last checkpoint; 0 for a new run.
        must_stop: asked at each boundary.
    """

    def __init__(
        self, save_every: int, updates_per_rollout: int, resumed_at: int, must_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._must_stop = must_stop
        self._save_every = save_every
        self._updates_per_rollout = updates_per_rollout
        self._saved_at = resumed_at
        self.stop_requested = False

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if state.global_step % self._updates_per_rollout or state.global_step >= state.max_steps:
            return
        stop = any(processes.all_gather(self.stop_requested or self._must_stop()))
        if stop or state.global_step - self._saved_at >= self._save_every:
            control.should_save = True
            self._saved_at = state.global_step
        if stop:
            control.should_training_stop = True


class StopOnSignal:
    """Context manager: the first SIGINT or SIGTERM stops at the next rollout boundary, a second one at once."""

    def __init__(self, policy: CheckpointPolicy) -> None:
        self._policy = policy
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous_handlers[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._policy.stop_requested:
            raise KeyboardInterrupt
        log.warning(
            "stopping at the end of this rollout (again: stop at once and lose what follows the last checkpoint)"
        )
        self._policy.stop_requested = True
