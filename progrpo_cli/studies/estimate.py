"""Estimate how long a study takes from finished runs on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from progrpo_cli.config.compose import validate
from progrpo_cli.config.schema import Config
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.records.find import find_runs
from progrpo_cli.studies.live_display import format_duration
from progrpo_cli.studies.pace import Shape, TrialConfigs, shape_of
from progrpo_cli.studies.plan import Plan


@dataclass(frozen=True)
class _OpenRuns:
    """Runs that are not complete."""

    config: Config
    updates: int
    """Missing updates of each run."""
    runs: float
    """The number of runs. Trials that are not drawn yet are divided evenly among the sampler's base configurations."""


class _UpdateTimes:
    """Seconds of the updates of finished runs that have one of the given shapes."""

    def __init__(self, root: Path, shapes: Collection[Shape]) -> None:
        self._seconds: dict[Shape, dict[str, list[float]]] = {}  # by shape and method
        for run in find_runs(root) if root.is_dir() else []:
            try:
                if run.finished and shape_of(config := run.config(import_others=False)) in shapes:
                    seconds = [line["step_seconds"] for line in run.metrics()]
                    self._seconds.setdefault(shape_of(config), {}).setdefault(config.method.name, []).extend(seconds)
            except (RequestError, ValueError, KeyError) as error:  # damaged, or of an earlier version
                log.warning(f"not counted in the estimate: {error}")

    def similar_to(self, config: Config) -> list[list[float]]:
        """Return the times of runs of the same shape: those of the same method, or else a list for each method."""
        by_method = self._seconds.get(shape_of(config), {})
        return [by_method[config.method.name]] if config.method.name in by_method else list(by_method.values())


def estimate(plan: Plan, rows: Sequence[Mapping[str, Any]], root: Path) -> str:
    """Describe in a sentence how long the plan's workers need for the runs that are not complete.

    The missing updates of all runs are multiplied by the median time of an update in finished runs of the same model,
    task and shape of rollout. Trials that are not drawn yet count as the mean of the sampler's base configurations.
    Evaluation and start-up are not included.

    Args:
        plan: the study.
        rows: the rows of ``trials.csv``.
        root: the directory in which finished runs are searched for.
    """
    trials = TrialConfigs(plan)
    missing = [
        _OpenRuns(config, config.train.steps - row["updates"], 1.0)
        for row in rows
        if row["status"] not in ("complete", "pruned") and (config := trials.config(row)) is not None
    ]
    if (not_drawn := plan.max_runs - len(rows)) > 0:
        bases = [validate(base.config) for base in plan.bases]
        missing += [_OpenRuns(config, config.train.steps, not_drawn / len(bases)) for config in bases]
    if not missing:
        return "nothing is left to do"
    times = _UpdateTimes(root, {shape_of(part.config) for part in missing})
    known = [(part, seconds) for part in missing if (seconds := times.similar_to(part.config))]
    if not known:
        return f"time unknown: no finished run under {root}/ has the same model, task and shape of rollout"
    medians = [statistics.median(chain.from_iterable(seconds)) for _, seconds in known]
    updates = sum(part.updates * part.runs for part, _ in known)
    total = sum(m * part.updates * part.runs for m, (part, _) in zip(medians, known, strict=True)) / plan.space.workers
    measured = sum({id(values): len(values) for _, seconds in known for values in seconds}.values())
    median = " to ".join(dict.fromkeys(f"{extreme(medians):.2f}" for extreme in (min, max)))
    unknown = sum(part.runs for part in missing) - sum(part.runs for part, _ in known)
    return (
        f"about {format_duration(total)} of training with {plan.space.workers} workers, without evaluation: "
        f"{updates:.0f} updates, median {median} s in {measured} updates of finished runs"
        + (f"; {unknown:.0f} runs are not included: no finished run has their shape" if unknown else "")
    )
