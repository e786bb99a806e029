"""How long a study would take, by the runs that are finished here."""

from __future__ import annotations

import statistics
from pathlib import Path

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.records.files import read_lines
from progrpo_cli.records.rundir import find_runs
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.view import duration

ALIKE = ("model.path", "task.name", "train.prompts_per_rollout", "train.group_size", "train.updates_per_rollout")


def estimate(plan: Plan, runs: int, root: Path) -> str:
    """A sentence: the time for so many runs by the plan's workers, from the median update of finished runs like them.

    Evaluation and start-up are not in it; runs are alike if model, task and the shape of a rollout are the same.
    """
    like = _shape(plan.bases[0].config)
    seconds = []
    for run in find_runs(root) if root.is_dir() else []:
        try:
            if run.finished and _shape(run.config().model_dump(mode="json")) == like:
                seconds += [line["step_seconds"] for line in read_lines(run.metrics_path)]
        except (RequestError, ValueError) as error:  # of an earlier version, or damaged: what is planned can be run
            log.warning(f"not counted in the estimate: {error}")
    if not seconds:
        return f"time unknown: no finished run under {root}/ has this model, task and shape of a rollout"
    steps = int(plan.bases[0].config["train"]["steps"])
    total = runs * steps * statistics.median(seconds) / plan.space.workers
    return (
        f"about {duration(total)} of training with {plan.space.workers} workers, evaluation apart: {steps} "
        f"updates a run, median {statistics.median(seconds):.2f} s in {len(seconds)} updates of finished runs"
    )


def _shape(config: dict[str, dict[str, object]]) -> tuple[object, ...]:
    pairs = (key.split(".") for key in ALIKE)
    return tuple(config[section][name] for section, name in pairs)
