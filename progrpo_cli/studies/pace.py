"""What the runs of a study cost, each by its own trial's settings, and so the time that is left."""

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
    """Updates of runs with the same one take about as long, as far as the method does not matter."""
    train = config.train
    rollout = (train.prompts_per_rollout, train.group_size, train.updates_per_rollout, config.task.max_new_tokens)
    return (config.model.path, config.task.name, *rollout)


def completions_of_an_update(config: Config) -> float:
    """How many completions an update learns from, and its share of those that are drawn for its rollout."""
    train = config.train
    rollout = train.prompts_per_rollout * train.group_size
    return rollout * (1 + 1 / train.updates_per_rollout)


class Trials:
    """The configurations of the trials that rows of ``trials.csv`` are about."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._configs: dict[str, Config | None] = {trial.config_hash: trial.config for trial in plan.grid}

    def config(self, row: Row) -> Config | None:
        """That of the row's trial; None where its parameters do not say."""
        name = row["config_hash"]
        if name not in self._configs:
            given = {key: row[key] for key in self._plan.space.parameters if row[key] is not None}
            try:
                trial = self._plan.trial(given)
                self._configs[name] = trial.config if trial.config_hash == name else None
            except RequestError:
                self._configs[name] = None
        return self._configs[name]


class Pace:
    """The time left, by how fast the study has gone on since we look.

    Work is counted in seconds of updates: what is done as it was measured, what is to do by the seconds that an update
    took in runs of the same method and shape of rollout, else in all runs in proportion to the completions.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._trials = Trials(plan)
        self._first: tuple[float, float] | None = None

    def left(self, found: Sequence[Row]) -> float | None:
        """Seconds to the end at the pace so far; None while there is none. A sampler may yet prune."""
        done: float = sum(row["seconds"] for row in found if row["status"] in DONE_OR_UNDER_WAY)
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        began, done_then = self._first
        if done <= done_then:
            return None
        return (now - began) / (done - done_then) * self._to_do(found)

    def _to_do(self, found: Sequence[Row]) -> float:
        """Seconds of updates that are to be made, those of trials that a sampler has yet to draw included."""
        seconds_of = self._seconds_of_an_update(found)
        whole_runs, to_do = [], 0.0
        for row in found:
            config = self._trials.config(row)
            if config is None:
                continue
            whole_runs.append(config.train.steps * seconds_of(config))
            if row["status"] not in GIVEN_UP:
                to_do += max(0, config.train.steps - row["updates"]) * seconds_of(config)
        not_known = self._plan.most_runs - len(whole_runs)
        return to_do + max(0, not_known) * (statistics.mean(whole_runs) if whole_runs else 0.0)

    def _seconds_of_an_update(self, found: Sequence[Row]) -> Callable[[Config], float]:
        measured: dict[object, list[float]] = {}
        of_a_completion = []
        for row in found:
            config = self._trials.config(row)
            if config is not None and row["updates"] and row["seconds"]:
                seconds = row["seconds"] / row["updates"]
                measured.setdefault((config.method.name, shape_of(config)), []).append(seconds)
                of_a_completion.append(seconds / completions_of_an_update(config))
        medians = {kind: statistics.median(seconds) for kind, seconds in measured.items()}
        of_any = statistics.median(of_a_completion) if of_a_completion else 0.0

        def seconds_of(config: Config) -> float:
            kind = (config.method.name, shape_of(config))
            return medians[kind] if kind in medians else of_any * completions_of_an_update(config)

        return seconds_of
