"""What happens around an update: metrics are written, checkpoints are asked for, signals end the run in order."""

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

# TRL's names and ours. The first group describes the rollout: TRL logs it on the update that sampled it, and we repeat
# it on the later updates made on the same rollout. The second group describes the update.
OF_THE_ROLLOUT = {
    "reward": "reward",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "zero_variance_fraction",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "truncated_fraction",
    "sampling/sampling_logp_difference/mean": "sampling_logp_difference",
    "sampling/importance_sampling_ratio/mean": "importance_sampling_ratio",
}
OF_THE_UPDATE = {
    "entropy": "entropy",
    "clip_ratio/region_mean": "clip_fraction",
    "clip_ratio/low_mean": "clip_fraction_low",
    "clip_ratio/high_mean": "clip_fraction_high",
    "grad_norm": "grad_norm",
    "loss": "loss",
    "learning_rate": "learning_rate",
    "kl": "kl",
}
# By the first part of their names: each reward function's own scores and the sampler's distance from the trainer belong
# to the rollout; what a method measures, under its name, to the update.
ALSO_OF_THE_ROLLOUT = ("rewards", "sampling")


class MetricsWriter(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """One flushed line a step in ``metrics.jsonl``, the same to the tracker, and the progress display.

    Args:
        path: ``metrics.jsonl``; lines after ``resumed_at`` (from updates that a crash took back) are removed first.
        rollout_metrics: gives ARM's and Pass@k's values of the current rollout.
        method: the run's method, under whose name it logs what it measures.
        validate: held-out scores after an update, or None; called when ``eval_every`` says so.
        health: how the run is watched.
        watch: gets each line after it is written; what it raises ends the run.
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
        kept = [record for record in files.read_lines(path) if record["step"] <= resumed_at]
        files.write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = path.open("a", encoding="utf-8")
        tracker.catch_up(kept)
        self._tracker = tracker
        self._health = Health(health, self._warn, earlier=kept)
        self._progress = progress
        self._rollout_metrics = rollout_metrics
        self._method = method
        self._validate = validate
        self._eval_every = eval_every
        self._watch = watch
        self._of_the_rollout: dict[str, Any] = {}
        self._validation: dict[str, float] = {}
        self._began = 0.0
        self._seconds = 0.0
        self._seconds_before = math.fsum(record.get("step_seconds", 0.0) for record in kept)

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._began = time.perf_counter()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        self._seconds = time.perf_counter() - self._began
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
        self._of_the_rollout.update({ours: logs[theirs] for theirs, ours in OF_THE_ROLLOUT.items() if theirs in logs})
        self._of_the_rollout.update(_named(logs, ALSO_OF_THE_ROLLOUT))
        record = {
            "step": state.global_step,
            **self._of_the_rollout,
            **{ours: logs[theirs] for theirs, ours in OF_THE_UPDATE.items() if theirs in logs},
            **_named(logs, (self._method,)),
            "step_seconds": self._seconds,
            "train_seconds": self._seconds_until_now(),
            **self._rollout_metrics(),
            **self._validation,
        }
        self._validation = {}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._tracker.log(record)
        self._health.look(record)
        self._progress.update(
            state.global_step,
            f"reward {record['reward']:.3f}, entropy {record['entropy']:.3f}, {self._seconds:.2f} s/update",
        )
        if self._watch is not None:
            self._watch(record)

    def _seconds_until_now(self) -> float:
        self._seconds_before += self._seconds
        return round(self._seconds_before, 3)

    def _warn(self, title: str, text: str) -> None:
        log.warning(text)
        self._tracker.alert(title, text)

    def close(self) -> None:
        """Close ``metrics.jsonl``, whose lines are on the disk already or never will be."""
        with suppress(OSError):
            self._file.close()


def _named(logs: dict[str, Any], first_parts: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in logs.items() if name.partition("/")[0] in first_parts}


class TakePart(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """What :class:`MetricsWriter` does with all processes at once, on those that write nothing."""

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
        """Nothing is open."""


class CheckpointPolicy(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Checkpoints on rollout boundaries only: TRL does not save its rollout buffer.

    A signal to any process stops all of them, at the same boundary; so does ``must_stop`` of any.
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


class SignalsStop:
    """The first SIGINT or SIGTERM asks to stop at the next rollout boundary; a second one ends at once."""

    def __init__(self, policy: CheckpointPolicy) -> None:
        self._policy = policy
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._policy.stop_requested:
            raise KeyboardInterrupt
        log.warning("stopping at the end of this rollout (again to stop at once, back to the last checkpoint)")
        self._policy.stop_requested = True
