"""A worker: a long-lived process that takes the next run of a study that nobody has, until none is left.

The run directory is the truth: its lock says that a run is taken (the kernel lets go of a dead worker's) and its
manifest that it is complete. So workers need no master, and any of them may die at any moment.
"""

from __future__ import annotations

from pathlib import Path

from progrpo_cli.commands.evaluate import Request, evaluate_run
from progrpo_cli.commands.train import train_locked
from progrpo_cli.console import log
from progrpo_cli.errors import Interrupted, RequestError, WorkError
from progrpo_cli.records.provenance import now
from progrpo_cli.studies.plan import Plan, Run, load_plan
from progrpo_cli.studies.storage import StudyRecord
from progrpo_cli.tracking.wandb_run import tracker


def work(directory: Path) -> None:
    """Do runs of the study until each is complete, taken by another worker, or failed since this worker began."""
    plan = load_plan(directory)
    record = StudyRecord(plan)
    began = now()
    while taken := _take_next(plan, record, began):
        log.info(f"{taken.directory.path} is done")
    for trial in plan.trials:
        _tell(plan, record, plan.runs_of(trial))


def _take_next(plan: Plan, record: StudyRecord, began: str) -> Run | None:
    """Take the first run that is open and nobody holds, and do it; None if there is none.

    Every search begins at the first run again: what another worker left when it died is found.
    """
    for run in plan.runs():
        if not _is_open(run, began):
            continue
        try:
            with run.directory.lock():
                if _is_open(run, began, held=True):  # it may have been done between the look and the lock
                    _do(run, plan, record)
                    return run
        except RequestError as error:
            log.warning(f"not taken: {error}")
    return None


def _is_open(run: Run, began: str, *, held: bool = False) -> bool:
    if run.validation is not None or (not held and run.directory.in_use()):
        return False
    return not run.directory.exists or (run.directory.manifest()["failed_at"] or "") < began


def _do(run: Run, plan: Plan, record: StudyRecord) -> None:
    """Train the run, evaluate it on the validation split and record the result; what is there already is used."""
    record.running(run.trial)
    trusted = run.config.model.trust_remote_code  # whoever made the plan asked for it
    request = Request(ks=list(plan.k), split="validation", trust_remote_code=trusted)
    try:
        train_locked(run.directory, run.config, study=plan.name)
        with tracker(run.directory, run.config, study=plan.name) as tracked:
            scores = evaluate_run(run.directory, request, tracked)[0]
    except (Interrupted, KeyboardInterrupt):
        raise
    except Exception as error:
        # One run that fails is no reason to leave the others undone: its manifest has the reason.
        log.exception(f"{run.directory.path} failed")
        if not run.directory.exists:
            raise WorkError(f"{run.directory.path}: {error}") from error
        run.directory.update(error=f"{type(error).__name__}: {error}", failed_at=now())
        return
    run.directory.update(
        error=None,
        validation={
            **{metric: None if scores[metric] is None else scores[metric]["value"] for metric in plan.metrics},
            "counts": scores["counts"],
            "eval_dir": scores["eval_dir"],
        },
    )
    _tell(plan, record, plan.runs_of(run.trial))


def _tell(plan: Plan, record: StudyRecord, trial_runs: list[Run]) -> None:
    """If all seeds of a trial are complete, its value goes to Optuna."""
    scores = [run.validation for run in trial_runs]
    values = [score[plan.objective.metric] for score in scores if score is not None]
    if len(values) == len(trial_runs):
        record.complete(trial_runs[0].trial, values)
