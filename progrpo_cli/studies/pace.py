"""Estimate the remaining time of a running study from the duration of its updates so far."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError
from progrpo_cli.studies.plan import Plan

Row = Mapping[str, Any]
Shape = tuple[object, ...]

DONE_OR_UNDER_WAY = ("complete", "running", "interrupted")
GIVEN_UP = ("pruned", "failed")


def shape_of(config: Config) -> Shape:
    """Return the settings that decide how long an update takes, apart from the method."""
    train = config.train
    rollout = (train.prompts_per_rollout, train.group_size, train.updates_per_rollout, config.task.max_new_tokens)
    return (config.model.path, config.task.name, *rollout)


def completions_per_update(config: Config) -> float:
    """Return the completions that an update is computed on, plus its share of those sampled for the rollout."""
    train = config.train
    rollout = train.prompts_per_rollout * train.group_size
    return rollout * (1 + 1 / train.updates_per_rollout)


class TrialConfigs:
    """The configurations of the trials in ``trials.csv``."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._configs: dict[str, Config | None] = {trial.config_hash: trial.config for trial in plan.grid}

    def config(self, row: Row) -> Config | None:
        """Return the configuration of the row's trial; None if its parameters do not determine it."""
        name = row["config_hash"]
        if name not in self._configs:
            parameters = {key: row[key] for key in self._plan.space.parameters if row[key] is not None}
            try:
                trial = self._plan.trial(parameters)
                self._configs[name] = trial.config if trial.config_hash == name else None
            except RequestError:
                self._configs[name] = None
        return self._configs[name]


class Pace:
    """Estimates the remaining time from the study's speed since the first call.

    Work is measured in seconds of updates. Those of missing updates are the median of runs with the same method and
    shape, or if there are none, that of all runs in proportion to the completions.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._trials = TrialConfigs(plan)
        self._first: tuple[float, float] | None = None

    def remaining_seconds(self, rows: Sequence[Row]) -> float | None:
        """Return the seconds to the end at the current pace; None before there is progress. Pruning may shorten it."""
        done: float = sum(row["seconds"] for row in rows if row["status"] in DONE_OR_UNDER_WAY)
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        start, done_at_start = self._first
        if done <= done_at_start:
            return None
        return (now - start) / (done - done_at_start) * self._missing_work(rows)

    def _missing_work(self, rows: Sequence[Row]) -> float:
        """Return the seconds of all missing updates, including trials that are not drawn yet."""
        seconds_per_update = self._update_time(rows)
        whole_runs, missing = [], 0.0
        for row in rows:
            config = self._trials.config(row)
            if config is None:
                continue
            whole_runs.append(config.train.steps * seconds_per_update(config))
            if row["status"] not in GIVEN_UP:
                missing += max(0, config.train.steps - row["updates"]) * seconds_per_update(config)
        unknown_runs = self._plan.max_runs - len(whole_runs)
        return missing + max(0, unknown_runs) * (statistics.mean(whole_runs) if whole_runs else 0.0)

    def _update_time(self, rows: Sequence[Row]) -> Callable[[Config], float]:
        """Return a function that estimates the seconds of an update of a configuration."""
        measured: dict[object, list[float]] = {}
        per_completion = []
        for row in rows:
            config = self._trials.config(row)
            if config is not None and row["updates"] and row["seconds"]:
                seconds = row["seconds"] / row["updates"]
                measured.setdefault((config.method.name, shape_of(config)), []).append(seconds)
                per_completion.append(seconds / completions_per_update(config))
        medians = {kind: statistics.median(seconds) for kind, seconds in measured.items()}
        default = statistics.median(per_completion) if per_completion else 0.0

        def seconds_per_update(config: Config) -> float:
            kind = (config.method.name, shape_of(config))
            return medians[kind] if kind in medians else default * completions_per_update(config)

        return seconds_per_update
