"""Where a study stands: ``trials.csv``, the table of trials at the end, and whether the best is the best."""

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


def rows(plan: Plan, store: Store | None, optuna_study: OptunaStudy | None) -> list[dict[str, Any]]:
    """One tidy row a (parameters, seed), as in ``trials.csv``; without a storage nothing is done yet.

    ``seconds`` are those of the updates made: what a run has cost, however long it lay interrupted.
    """
    trials = _trials(plan, optuna_study)
    runs = [(trial, state, run) for trial, state in trials for run in plan.runs_of(trial)]
    entries = store.ledger.entries([run.name for _, _, run in runs]) if store else {}
    return [_row(plan, trial, state, run, entries.get(run.name, Entry())) for trial, state, run in runs]


def _trials(plan: Plan, optuna_study: OptunaStudy | None) -> list[tuple[Trial, str]]:
    """Every trial once, with the state of its latest try."""
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
    """``complete``, ``pruned``, ``running``, ``failed``, ``interrupted`` or ``planned``."""
    if entry.result is not None:
        return "complete"
    if entry.held:
        return "running"
    if entry.pruned is not None or trial_state == "PRUNED":
        return "pruned"
    if entry.failures:
        return "failed"
    return "interrupted" if entry.attempts else "planned"


def write_trials_csv(plan: Plan, found: Sequence[Mapping[str, Any]]) -> None:
    """Write ``trials.csv`` from its :func:`rows`."""
    columns = [column for column in (found[0] if found else {}) if column != "worker"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([escape.csv(column) for column in columns])
    for row in found:
        cells = (row[column] for column in columns)
        writer.writerow([escape.csv(cell) if isinstance(cell, str) else cell for cell in cells])
    files.write_text(_trials_csv(plan), text.getvalue())


def written_lately(plan: Plan, seconds: float = 10.0) -> bool:
    """Whether somebody wrote ``trials.csv`` less than so many seconds ago; many workers need not do it at once."""
    path = _trials_csv(plan)
    return path.exists() and abs(time.time() - path.stat().st_mtime) < seconds


def _trials_csv(plan: Plan) -> Path:
    return plan.directory / "trials.csv"


def trial_table(plan: Plan, store: Store, optuna_study: OptunaStudy) -> list[dict[str, Any]]:
    """Each complete trial with every metric, mean over seeds with 95 % crossed interval; best first objective first.

    With several objectives ``front`` says whether no other trial is better in all of them.
    """
    import numpy as np

    from progrpo_cli.metrics.bootstrap import crossed_bootstrap, metric_bounds

    complete = {k.trial.config_hash: k for k in optuna_study.trials() if k.values is not None}
    names = {each: [run.name for run in plan.runs_of(known.trial)] for each, known in complete.items()}
    entries = store.ledger.entries([name for of_trial in names.values() for name in of_trial])
    results = {each: [entries[name].result or {} for name in of_trial] for each, of_trial in names.items()}
    if not complete:
        return []
    table: dict[str, dict[str, Any]] = {
        each: {
            "config_hash": each,
            "parameters": known.trial.parameters,
            "seeds": len(plan.seeds),
            "objective": (known.values or (0.0,))[0],
            "objectives": {o.metric: value for o, value in zip(plan.space.objectives, known.values or (), strict=True)},
        }
        for each, known in complete.items()
    }
    alike = comparable_groups(results)
    for metric in plan.metrics:
        if not all(metric in result["per_problem"] for of_trial in results.values() for result in of_trial):
            continue
        values = {each: np.array([r["per_problem"][metric] for r in of_trial]) for each, of_trial in results.items()}
        limits = metric_bounds(metric, plan.samples)
        for group in alike:
            for each, crossed_ in crossed_bootstrap({each: values[each] for each in group}, bounds=limits).items():
                mean = crossed_.mean
                table[each][metric] = {"value": mean.value, "low": mean.low, "high": mean.high}
    signs = [-1.0 if objective.direction == "maximize" else 1.0 for objective in plan.space.objectives]
    costs = {
        each: [sign * value for sign, value in zip(signs, known.values or (), strict=True)]
        for each, known in complete.items()
    }
    for group in alike:
        for each in group:
            table[each]["front"] = not any(_dominates(costs[other], costs[each]) for other in group)
    return sorted(table.values(), key=lambda row: signs[0] * row["objective"])


def _dominates(left: Sequence[float], right: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True)) and list(left) != list(right)


def verdict(plan: Plan, store: Store, table: Sequence[Mapping[str, Any]]) -> str | None:
    """Whether the best trial is better than the next one, or within noise of it; None with fewer than two trials.

    With one seed a trial nothing is tested about settings: only the difference of the two policies is said.
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
    best, after = table[0]["config_hash"], table[1]["config_hash"]
    if different := differences_between(results[after], results[best]):
        return f"the best and the next were not measured alike and cannot be compared: {different}"
    difference = crossed_bootstrap(values, bounds=metric_bounds(metric, plan.samples), baseline=after)[best].difference
    assert difference is not None
    shown = f"{metric} {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    if len(plan.seeds) == 1:
        told = "one seed a trial, so nothing is tested about settings; the first policy less the next"
        return f"{told}: {shown} (95 %, paired)"
    if difference.low <= 0 <= difference.high:
        return f"the best is within noise of the next: {shown} (95 %, paired)"
    return f"the best is ahead of the next: {shown} (95 %, paired)"
