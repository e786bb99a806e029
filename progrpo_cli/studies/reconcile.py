"""Update Optuna's trials from the ledger of runs: the mean over seeds and its interval, failures and pruning."""

from __future__ import annotations

from collections.abc import Sequence

from progrpo_cli.studies.comparable import differences_between
from progrpo_cli.studies.entry import Entry
from progrpo_cli.studies.optuna_trials import KnownTrial, OptunaStudy
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.storage import Store


def reconcile(plan: Plan, store: Store, optuna_study: OptunaStudy, *, only: str | None = None) -> None:
    """Bring Optuna's unfinished trials up to date: a worker may have died after it wrote a result to the ledger.

    Args:
        plan: the study's plan.
        store: its storage.
        optuna_study: its trials.
        only: update only the trials with this config_hash.
    """
    trials = [
        known for known in optuna_study.trials() if not known.finished and only in (None, known.trial.config_hash)
    ]
    names = {known.number: [run.name for run in plan.runs_of(known.trial)] for known in trials}
    entries = store.ledger.entries([name for trial_names in names.values() for name in trial_names])
    for known in trials:
        _reconcile_trial(plan, optuna_study, known, [entries[name] for name in names[known.number]])
    if only is None:
        optuna_study.requeue_abandoned(lambda known: any(entries[name].held for name in names.get(known.number, [])))


def _reconcile_trial(plan: Plan, optuna_study: OptunaStudy, known: KnownTrial, entries: Sequence[Entry]) -> None:
    results = [entry.result for entry in entries if entry.result is not None]
    exhausted = [entry for entry in entries if not entry.ended and not entry.may_be_tried(plan.space.retries)]
    is_over = len(results) + len(exhausted) == len(entries)  # the other seeds are run even if one has failed
    pruned = [entry.pruned for entry in entries if entry.pruned is not None]
    if len(results) == len(entries):
        if description := differences_between(results):
            optuna_study.fail(known, f"its seeds were measured differently: {description}")
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
            optuna_study.set_attribute(known, f"interval/{objective.metric}", [low, high])
        optuna_study.complete(known, means)
    elif pruned:
        optuna_study.prune(known, pruned[0])
    elif is_over and not any(entry.held for entry in exhausted):
        optuna_study.fail(known, exhausted[0].failures[-1][1])


def interval(metric: str, per_problem: Sequence[Sequence[float]], n: int) -> tuple[float, float]:
    """Return the 95 % interval of a metric's mean over seeds and problems, from a crossed bootstrap.

    Args:
        metric: its name in ``scores.json``.
        per_problem: (S, P) values, for S seeds and P problems.
        n: samples per problem, which bound some metrics.
    """
    import numpy as np

    from progrpo_cli.metrics.bootstrap import crossed_bootstrap, metric_bounds

    mean = crossed_bootstrap({"": np.array(per_problem, dtype=np.float64)}, bounds=metric_bounds(metric, n))[""].mean
    return mean.low, mean.high
