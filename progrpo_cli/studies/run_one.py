"""Execute one run of a study: train, evaluate on the validation split, return the result for the ledger."""

from __future__ import annotations

from typing import Any

from progrpo_cli.evaluation.request import Request
from progrpo_cli.evaluation.scores_file import Scores
from progrpo_cli.evaluation.targets import evaluate_run
from progrpo_cli.metrics.passk import pass_at_k_per_problem
from progrpo_cli.studies.plan import Plan, Run
from progrpo_cli.studies.worker import Watch
from progrpo_cli.tracking.wandb_run import tracker
from progrpo_cli.training.launch import train_locked


def train_and_evaluate(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
    """Start or continue a run whose directory the caller has locked; return a :class:`RunResult`.

    The test split is never used.
    """
    train_locked(run.directory, run.config, study=plan.name, watch=watch)
    trusted = run.config.model.trust_remote_code  # the worker's command has accepted the study's demands
    temperatures = () if plan.space.temperature is None else (plan.space.temperature,)
    request = Request(ks=list(plan.space.k), split="validation", temperatures=temperatures, trust_remote_code=trusted)
    with tracker(run.directory, run.config, study=plan.name) as wandb_run:
        scores = evaluate_run(run.directory, request, wandb_run)[0]
    measured = scores.metrics()
    return {
        "values": {metric: measured[metric].value if metric in measured else None for metric in plan.metrics},
        "per_problem": _per_problem(plan, scores),
        "updates": run.config.train.steps,
        "seconds": run.directory.train_seconds(),
        "wandb_run_id": run.directory.manifest()["wandb_run_id"],
        "eval_dir": scores.eval_dir,
        "comparable_key": scores.key.model_dump(mode="json"),
    }


def _per_problem(plan: Plan, scores: Scores) -> dict[str, list[float]]:
    """Return metric -> (P,) values per problem, from which confidence intervals are computed."""
    import numpy as np

    counts = np.array([[n, correct] for _, n, correct in scores.counts])
    values = {f"pass@{k}": pass_at_k_per_problem(counts[:, 0], counts[:, 1], k).round(9).tolist() for k in plan.space.k}
    per_problem = scores.per_problem
    for metric, column in (("entropy", per_problem.entropy), ("distinct_correct", per_problem.distinct_correct)):
        known = [value for value in column or () if value is not None]
        if column is not None and len(known) == len(column):
            values[metric] = known
    return values
