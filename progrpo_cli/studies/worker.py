"""A worker: a long-lived process that takes the next run of a study that nobody has, until none is left.

The run directory is the truth: its lock says that a run is taken (the kernel lets go of a dead worker's) and its
manifest that it is complete. So workers need no master, and any of them may die at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from progrpo_cli.commands.evaluate import Request, evaluate_run
from progrpo_cli.commands.train import train_in
from progrpo_cli.console import log
from progrpo_cli.errors import Interrupted, RequestError
from progrpo_cli.records.provenance import now
from progrpo_cli.studies.plan import Plan, Run, load_plan
from progrpo_cli.studies.storage import StudyRecord
from progrpo_cli.tracking.wandb_run import tracker


def work(directory: Path) -> None:
    """Do runs of the study until each is complete, taken by another worker, or failed since this worker began."""
    plan = load_plan(directory)
    record = StudyRecord(plan)
    for run in _open_runs(plan, began=now()):
        try:
            complete(run, plan, record)
        except (Interrupted, KeyboardInterrupt):
            raise
        except Exception as error:
            # One run that fails is no reason to leave the others undone: its manifest has the reason.
            log.exception(f"{run.directory.path} failed")
            run.directory.update(error=f"{type(error).__name__}: {error}", failed_at=now())
    for trial in plan.trials:
        _tell(plan, record, trial_runs=plan.runs_of(trial))


def _open_runs(plan: Plan, began: str) -> Iterator[Run]:
    for run in plan.runs():
        if run.validation is not None or run.directory.in_use():
            continue
        if run.directory.exists and (run.directory.manifest()["failed_at"] or "") >= began:
            continue
        yield run


def complete(run: Run, plan: Plan, record: StudyRecord) -> None:
    """Train the run, evaluate it on the validation split and record the result; what is there already is used."""
    record.running(run.trial)
    try:
        train_in(run.directory, run.config, study=plan.name)
    except RequestError as error:
        if run.directory.in_use():  # another worker was quicker
            return
        raise error
    with run.directory.lock(), tracker(run.directory, run.config, study=plan.name) as tracked:
        scores = evaluate_run(run.directory, Request(ks=list(plan.k), split="validation"), tracked)[0]
        metrics = [f"pass@{k}" for k in plan.k] + ["entropy", "distinct_correct"]
        run.directory.update(
            validation={
                **{metric: None if scores[metric] is None else scores[metric]["value"] for metric in metrics},
                "counts": scores["counts"],
                "eval_dir": scores["eval_dir"],
            }
        )
    _tell(plan, record, trial_runs=plan.runs_of(run.trial))


def _tell(plan: Plan, record: StudyRecord, trial_runs: list[Run]) -> None:
    scores = [run.validation for run in trial_runs]
    values = [score[plan.objective.metric] for score in scores if score is not None]
    if len(values) == len(trial_runs):
        record.complete(trial_runs[0].trial, values)
