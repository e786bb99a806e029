"""How long a study would take, by the runs that are finished here."""

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
from progrpo_cli.studies.live_display import duration
from progrpo_cli.studies.pace import Shape, Trials, shape_of
from progrpo_cli.studies.plan import Plan


@dataclass(frozen=True)
class _Missing:
    """Runs that are to be done."""

    config: Config
    updates: int
    """Of each."""
    runs: float
    """How many; trials that are yet to be drawn are parted among the configurations that a sampler starts from."""


class _Measured:
    """Seconds of the updates of finished runs with one of the shapes that are asked about."""

    def __init__(self, root: Path, shapes: Collection[Shape]) -> None:
        self._of_shape: dict[Shape, dict[str, list[float]]] = {}
        """By shape of rollout and method."""
        for run in find_runs(root) if root.is_dir() else []:
            try:
                if run.finished and shape_of(config := run.config(import_others=False)) in shapes:
                    seconds = [line["step_seconds"] for line in run.metrics()]
                    self._of_shape.setdefault(shape_of(config), {}).setdefault(config.method.name, []).extend(seconds)
            except (
                RequestError,
                ValueError,
                KeyError,
            ) as error:  # damaged, or of an earlier version
                log.warning(f"not counted in the estimate: {error}")

    def like(self, config: Config) -> list[list[float]]:
        """Of runs of the same shape of rollout: those of the same method if there are any, else of each method."""
        of_methods = self._of_shape.get(shape_of(config), {})
        return [of_methods[config.method.name]] if config.method.name in of_methods else list(of_methods.values())


def estimate(plan: Plan, found: Sequence[Mapping[str, Any]], root: Path) -> str:
    """A sentence: the time that the plan's workers need for what is missing, from finished runs under ``root``.

    Summed over the trials, each with its own number of updates, at the median update of finished runs of the same
    model, task and shape of rollout. Trials that a sampler has yet to draw count like the mean of those it starts from.
    Evaluation and start-up are not in it.

    Args:
        plan: the study.
        found: the rows of ``trials.csv``.
        root: where finished runs are looked for.
    """
    trials = Trials(plan)
    missing = [
        _Missing(config, config.train.steps - row["updates"], 1.0)
        for row in found
        if row["status"] not in ("complete", "pruned") and (config := trials.config(row)) is not None
    ]
    if (not_drawn := plan.most_runs - len(found)) > 0:
        starts = [validate(base.config) for base in plan.bases]
        missing += [_Missing(config, config.train.steps, not_drawn / len(starts)) for config in starts]
    if not missing:
        return "nothing is left to do"
    measured = _Measured(root, {shape_of(each.config) for each in missing})
    known = [(each, seconds) for each in missing if (seconds := measured.like(each.config))]
    if not known:
        return f"time unknown: no finished run under {root}/ has this model, task and shape of a rollout"
    medians = [statistics.median(chain.from_iterable(seconds)) for _, seconds in known]
    updates = sum(each.updates * each.runs for each, _ in known)
    total = sum(m * each.updates * each.runs for m, (each, _) in zip(medians, known, strict=True)) / plan.space.workers
    counted = sum({id(of_runs): len(of_runs) for _, seconds in known for of_runs in seconds}.values())
    median = " to ".join(dict.fromkeys(f"{end(medians):.2f}" for end in (min, max)))
    unknown = sum(each.runs for each in missing) - sum(each.runs for each, _ in known)
    return (
        f"about {duration(total)} of training with {plan.space.workers} workers, evaluation apart: {updates:.0f} "
        f"updates, median {median} s in {counted} updates of finished runs"
        + (f"; {unknown:.0f} runs of a shape that no finished run has are not in it" if unknown else "")
    )
