"""Tables of a study: ``trials.csv``, the final table of trials, and the comparison of the two best trials."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progrpo_cli import escape
from progrpo_cli.records import files
from progrpo_cli.studies.comparable import comparable_groups, differences_between
from progrpo_cli.studies.entry import Entry
from progrpo_cli.studies.plan import Plan, Run, Trial
from progrpo_cli.studies.storage import Store

if TYPE_CHECKING:
    from progrpo_cli.studies.optuna_trials import OptunaStudy


def run_rows(plan: Plan, store: Store | None, optuna_study: OptunaStudy | None) -> list[dict[str, Any]]:
    """Return the rows of ``trials.csv``, one per run (parameters and seed). Without a storage, all are planned.

    ``seconds`` is the duration of the run's updates; interruptions are not included.
    """
    trials = _trials(plan, optuna_study)
    runs = [(trial, state, run) for trial, state in trials for run in plan.runs_of(trial)]
    entries = store.ledger.entries([run.name for _, _, run in runs]) if store else {}
    return [_row(plan, trial, state, run, entries.get(run.name, Entry())) for trial, state, run in runs]


def _trials(plan: Plan, optuna_study: OptunaStudy | None) -> list[tuple[Trial, str]]:
    """Return each trial once, with its latest state."""
    known = {k.trial.config_hash: (k.trial, k.state.name) for k in optuna_study.trials()} if optuna_study else {}
    planned = {trial.config_hash: (trial, "WAITING") for trial in plan.grid}
    return list({**planned, **known}.values())


def _row(plan: Plan, trial: Trial, state: str, run: Run, entry: Entry) -> dict[str, Any]:
    result = entry.result
    values: Mapping[str, Any] = result["values"] if result else {}
    if result:
        updates, seconds = result["updates"], result["seconds"]
    else:
        lines = run.directory.metrics() if entry.attempts else []
        updates, seconds = len(lines), round(sum(line["step_seconds"] for line in lines), 3)
    return {
        "config_hash": trial.config_hash,
        "seed": run.seed,
        **{key: trial.parameters.get(key) for key in plan.space.parameters},
        **{f"validation/{metric}": values.get(metric) for metric in plan.metrics},
        "status": status(entry, state),
        "attempts": entry.attempts,
        "updates": updates,
        "seconds": seconds,
        "run_dir": str(run.directory.path),
        "worker": entry.worker if entry.held else None,
        "error": entry.failures[-1][1] if entry.failures and not result else None,
    }


def status(entry: Entry, trial_state: str) -> str:
    """Return ``complete``, ``pruned``, ``running``, ``failed``, ``interrupted`` or ``planned``."""
    if entry.result is not None:
        return "complete"
    if entry.held:
        return "running"
    if entry.pruned is not None or trial_state == "PRUNED":
        return "pruned"
    if entry.failures:
        return "failed"
    return "interrupted" if entry.attempts else "planned"


def write_trials_csv(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``trials.csv`` from :func:`run_rows`."""
    columns = [column for column in (rows[0] if rows else {}) if column != "worker"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([escape.csv(column) for column in columns])
    for row in rows:
        cells = (row[column] for column in columns)
        writer.writerow([escape.csv(cell) if isinstance(cell, str) else cell for cell in cells])
    files.write_text(_trials_csv(plan), text.getvalue())


def written_recently(plan: Plan, seconds: float = 10.0) -> bool:
    """Whether any worker wrote ``trials.csv`` in the last ``seconds``, so that many workers do not write it at once."""
    path = _trials_csv(plan)
    return path.exists() and abs(time.time() - path.stat().st_mtime) < seconds


def _trials_csv(plan: Plan) -> Path:
    return plan.directory / "trials.csv"


def trial_table(plan: Plan, store: Store, optuna_study: OptunaStudy) -> list[dict[str, Any]]:
    """Return a row for each complete trial, sorted by the first objective, best first.

    Each metric has its mean over seeds and a 95 % interval from a crossed bootstrap. ``front`` is true for trials on
    the Pareto front of the objectives, among trials that are comparable.
    """
    import numpy as np

    from progrpo_cli.metrics.bootstrap import crossed_bootstrap, metric_bounds

    complete = {known.trial.config_hash: known for known in optuna_study.trials() if known.values is not None}
    names = {trial: [run.name for run in plan.runs_of(known.trial)] for trial, known in complete.items()}
    entries = store.ledger.entries([name for run_names in names.values() for name in run_names])
    results = {trial: [entries[name].result or {} for name in run_names] for trial, run_names in names.items()}
    if not complete:
        return []
    table: dict[str, dict[str, Any]] = {
        trial: {
            "config_hash": trial,
            "parameters": known.trial.parameters,
            "seeds": len(plan.seeds),
            "objective": (known.values or (0.0,))[0],
            "objectives": {o.metric: value for o, value in zip(plan.space.objectives, known.values or (), strict=True)},
        }
        for trial, known in complete.items()
    }
    groups = comparable_groups(results)
    for metric in plan.metrics:
        if not all(metric in result["per_problem"] for trial_results in results.values() for result in trial_results):
            continue
        values = {trial: np.array([r["per_problem"][metric] for r in results[trial]]) for trial in results}
        limits = metric_bounds(metric, plan.samples)
        for group in groups:
            for trial, estimates in crossed_bootstrap({trial: values[trial] for trial in group}, bounds=limits).items():
                mean = estimates.mean
                table[trial][metric] = {"value": mean.value, "low": mean.low, "high": mean.high}
    signs = [-1.0 if objective.direction == "maximize" else 1.0 for objective in plan.space.objectives]
    costs = {
        trial: [sign * value for sign, value in zip(signs, known.values or (), strict=True)]
        for trial, known in complete.items()
    }
    for group in groups:
        for trial in group:
            table[trial]["front"] = not any(_dominates(costs[other], costs[trial]) for other in group)
    return sorted(table.values(), key=lambda row: signs[0] * row["objective"])


def _dominates(left: Sequence[float], right: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True)) and list(left) != list(right)


def verdict(plan: Plan, store: Store, table: Sequence[Mapping[str, Any]]) -> str | None:
    """Describe whether the best trial is better than the second best; None with fewer than two trials.

    With one seed per trial, the difference of the two policies is reported without a conclusion about the settings.
    """
    if len(table) < 2:
        return None
    import numpy as np

    from progrpo_cli.metrics.bootstrap import crossed_bootstrap, metric_bounds

    metric = plan.space.objectives[0].metric
    results, values = {}, {}
    for row in table[:2]:
        names = [f"{row['config_hash']}-s{seed}" for seed in plan.seeds]
        entries = store.ledger.entries(names)
        results[row["config_hash"]] = [entries[name].result or {} for name in names]
        values[row["config_hash"]] = np.array([r["per_problem"][metric] for r in results[row["config_hash"]]])
    best, second = table[0]["config_hash"], table[1]["config_hash"]
    if description := differences_between(results[second], results[best]):
        return f"the best trial and the next were measured differently and cannot be compared: {description}"
    difference = crossed_bootstrap(values, bounds=metric_bounds(metric, plan.samples), baseline=second)[best].difference
    assert difference is not None
    interval = f"{metric} {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] (95 %, paired)"
    if len(plan.seeds) == 1:
        return f"one seed per trial does not test the settings; the first policy minus the next: {interval}"
    if difference.low <= 0 <= difference.high:
        return f"the best is within noise of the next: {interval}"
    return f"the best is ahead of the next: {interval}"
