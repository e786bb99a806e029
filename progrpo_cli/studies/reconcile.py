"""From the runs in the ledger to the trials in Optuna: the mean over seeds, its interval, what failed and why."""

from __future__ import annotations

from collections.abc import Sequence

from progrpo_cli.studies.comparable import differences_between
from progrpo_cli.studies.entry import Entry
from progrpo_cli.studies.optuna_trials import KnownTrial, OptunaStudy
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.storage import Store


def reconcile(plan: Plan, store: Store, optuna_study: OptunaStudy, *, only: str | None = None) -> None:
    """Tell Optuna what the ledger knows: a worker may have died between writing its result and telling it.

    Args:
        only: look at the trials with this config_hash alone.
    """
    looked_at = [k for k in optuna_study.trials() if not k.finished and only in (None, k.trial.config_hash)]
    names = {known.number: [run.name for run in plan.runs_of(known.trial)] for known in looked_at}
    entries = store.ledger.entries([name for of_trial in names.values() for name in of_trial])
    for known in looked_at:
        _reconcile_trial(plan, optuna_study, known, [entries[name] for name in names[known.number]])
    if only is None:
        optuna_study.settle(lambda known: any(entries[name].held for name in names.get(known.number, [])))


def _reconcile_trial(plan: Plan, optuna_study: OptunaStudy, known: KnownTrial, entries: Sequence[Entry]) -> None:
    results = [entry.result for entry in entries if entry.result is not None]
    exhausted = [entry for entry in entries if not entry.ended and not entry.may_be_tried(plan.space.retries)]
    over = len(results) + len(exhausted) == len(entries)  # the other seeds of a trial that fails are run all the same
    pruned = [entry.pruned for entry in entries if entry.pruned is not None]
    if len(results) == len(entries):
        if different := differences_between(results):
            optuna_study.fail(known, f"its seeds were not measured alike: {different}")
            return
        means = []
        for objective in plan.space.objectives:
            measured = [result["values"][objective.metric] for result in results]
            values = [value for value in measured if value is not None]
            if len(values) < len(measured):
                optuna_study.fail(known, f"the task does not measure {objective.metric}")
                return
            means.append(sum(values) / len(values))
            per_problem = [result["per_problem"][objective.metric] for result in results]
            low, high = interval(objective.metric, per_problem, plan.samples)
            optuna_study.attribute(known, f"interval/{objective.metric}", [low, high])
        optuna_study.complete(known, means)
    elif pruned:
        optuna_study.prune(known, pruned[0])
    elif over and not any(entry.held for entry in exhausted):
        optuna_study.fail(known, exhausted[0].failures[-1][1])


def interval(metric: str, per_problem: Sequence[Sequence[float]], n: int) -> tuple[float, float]:
    """The 95 % interval of a metric's mean over seeds and problems: (S, P) values of n samples a problem, crossed."""
    import numpy as np

    from progrpo_cli.metrics.bootstrap import crossed_bootstrap, metric_bounds

    mean = crossed_bootstrap({"": np.array(per_problem, dtype=np.float64)}, bounds=metric_bounds(metric, n))[""].mean
    return mean.low, mean.high
