"""Where a study stands: ``trials.csv`` and the table at the end."""

from __future__ import annotations

import csv
import io
from typing import Any

from progrpo_cli.records import files
from progrpo_cli.studies.plan import Plan, Run


def status(run: Run) -> str:
    """``complete``, ``failed``, ``running``, ``interrupted`` or ``planned``."""
    if run.validation is not None:
        return "complete"
    if not run.directory.exists:
        return "planned"
    if run.directory.in_use():
        return "running"
    return "failed" if run.directory.manifest()["error"] else "interrupted"


def rows(plan: Plan) -> list[dict[str, Any]]:
    """One tidy row a (parameters, seed), as in ``trials.csv``.

    ``seconds`` are those of the updates made: what a run has cost, however long it lay interrupted.
    """
    found = []
    for run in plan.runs():
        manifest = run.directory.manifest() if run.directory.exists else None
        scores = run.validation or {}
        updates = files.read_lines(run.directory.metrics_path)
        found.append(
            {
                "config_hash": run.trial.config_hash,
                "seed": run.seed,
                **run.trial.parameters,
                **{f"validation/{metric}": scores.get(metric) for metric in plan.metrics},
                "status": status(run),
                "attempts": 1 + len(manifest["resumed_at"]) if manifest else 0,
                "updates": len(updates),
                "seconds": round(sum(update["step_seconds"] for update in updates), 3),
                "run_dir": str(run.directory.path),
                "error": manifest["error"] if manifest else None,
            }
        )
    return found


def write_trials_csv(plan: Plan) -> list[dict[str, Any]]:
    """Write ``trials.csv`` and return its rows."""
    found = rows(plan)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    files.write_text(plan.directory / "trials.csv", text.getvalue())
    return found


def trial_table(plan: Plan) -> list[dict[str, Any]]:
    """Each complete trial with the objective and Pass@1, mean over seeds with 95 % crossed interval; best first.

    Only Pass@k has an interval here: it is made from the counts that the run's manifest keeps.
    """
    import numpy as np

    from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed
    from progrpo_cli.metrics.passk import pass_at_k_per_problem

    done = [trial for trial in plan.trials if all(run.validation is not None for run in plan.runs_of(trial))]
    if not done:
        return []
    table = [{"config_hash": t.config_hash, "parameters": t.parameters, "seeds": len(plan.seeds)} for t in done]
    for k in plan.k:
        groups = {}
        for trial in done:
            counts = [np.array([[n, c] for _, n, c in (r.validation or {})["counts"]]) for r in plan.runs_of(trial)]
            groups[trial.config_hash] = np.stack([pass_at_k_per_problem(c[:, 0], c[:, 1], k) for c in counts])
        intervals = crossed(groups, bounds=PROBABILITY)
        for row in table:
            mean = intervals[str(row["config_hash"])].mean
            row[f"pass@{k}"] = {"value": mean.value, "low": mean.low, "high": mean.high}
    for row, trial in zip(table, done, strict=True):
        values = [(run.validation or {})[plan.objective.metric] for run in plan.runs_of(trial)]
        row["objective"] = sum(values) / len(values)
    best_first = -1 if plan.objective.direction == "maximize" else 1
    return sorted(table, key=lambda row: best_first * row["objective"])
