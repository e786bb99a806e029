"""One run of a study: train, evaluate on the validation split, and say what came of it."""

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
    """Do what is missing of a run whose directory the caller holds; the result for the ledger.

    Test problems are never looked at.
    """
    train_locked(run.directory, run.config, study=plan.name, watch=watch)
    trusted = run.config.model.trust_remote_code  # whoever started the worker has been asked, see Plan.demands
    at = () if plan.space.temperature is None else (plan.space.temperature,)
    request = Request(ks=list(plan.space.k), split="validation", temperatures=at, trust_remote_code=trusted)
    with tracker(run.directory, run.config, study=plan.name) as tracked:
        scores = evaluate_run(run.directory, request, tracked)[0]
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
    """For each metric a value a problem, of which intervals are made."""
    import numpy as np

    counts = np.array([[n, correct] for _, n, correct in scores.counts])
    values = {f"pass@{k}": pass_at_k_per_problem(counts[:, 0], counts[:, 1], k).round(9).tolist() for k in plan.space.k}
    of_problem = scores.per_problem
    for metric, column in (("entropy", of_problem.entropy), ("distinct_correct", of_problem.distinct_correct)):
        known = [value for value in column or () if value is not None]
        if column is not None and len(known) == len(column):
            values[metric] = known
    return values
