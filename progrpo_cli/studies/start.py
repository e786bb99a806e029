"""The use cases of ``progrpo sweep``: run or continue a study, report its status, or work as one of its workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from progrpo_cli.config.compose import validate
from progrpo_cli.config.paths import RUNS
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.heavy import heavy_imports
from progrpo_cli.sampling.vllm_setup import require_generation
from progrpo_cli.studies.open import (
    Settings,
    fetch_plan,
    find_study,
    freeze,
    open_study,
    read_study,
    requested_plan,
)
from progrpo_cli.studies.plan import Plan, load_plan
from progrpo_cli.studies.space import own_file
from progrpo_cli.studies.storage import Store, check_url, open_store
from progrpo_cli.studies.trust import refuse_demands, refuse_slurm_options, refuse_storage


def sweep(
    space: str | None,
    overrides: list[str],
    settings: Settings,
    *,
    study: str | None,
    dry_run: bool,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Start or continue a study and return its trials, best first; with ``dry_run``, only describe it.

    Raises:
        RequestError: the space, an override, a setting or the study's directory is invalid.
        WorkError: some runs failed; all others are complete.
    """
    plan = requested_plan(space, overrides, settings, study)
    if plan.is_frozen:
        existing = load_plan(plan.directory)
        existing.refuse_other_versions()
        plan.refuse_other(existing)
    if dry_run:
        from progrpo_cli.studies.estimate import estimate
        from progrpo_cli.studies.trial_tables import run_rows

        rows = run_rows(plan, *(read_study(plan) if plan.is_frozen else (None, None)))
        open_runs = plan.max_runs - sum(row["status"] in ("complete", "pruned") for row in rows)
        return {
            **_describe(plan),
            "runs": rows,
            "runs_in_all": plan.max_runs,
            "runs_to_do": open_runs,
            "estimate": estimate(plan, rows, RUNS),
        }
    _require_generation(plan)
    if settings.launcher == "slurm":
        from progrpo_cli.studies.launchers.slurm import require_slurm

        require_slurm(plan.space.slurm)
        if not settings.trust_config:
            refuse_slurm_options(plan, own_file(space))
    is_new = freeze(plan)
    from progrpo_cli.studies.launchers.make import open_launcher

    # In a new study every run is open, so its workers start before the journal is opened: their imports take seconds.
    # A database may already hold the study from another machine, so its trials are read first.
    initial_workers = min(plan.space.workers, plan.max_runs) if is_new and plan.storage is None else 0
    with open_launcher(settings.launcher, plan, initial_workers=initial_workers) as launcher:
        from progrpo_cli.studies.reconcile import reconcile
        from progrpo_cli.studies.supervise import supervise
        from progrpo_cli.studies.trial_tables import run_rows, write_trials_csv

        store, optuna_study = open_study(plan)
        if retry_failed:
            trials = optuna_study.trials()
            store.ledger.reset_failures([run.name for known in trials for run in plan.runs_of(known.trial)])
            for known in [known for known in trials if known.state.name == "FAIL"]:
                optuna_study.retry(known)
        reconcile(plan, store, optuna_study)
        open_runs = sum(row["status"] not in ("complete", "pruned") for row in run_rows(plan, store, optuna_study))
        log.info(f"study {plan.directory}: {open_runs + optuna_study.remaining_draws() * len(plan.seeds)} runs to do")
        supervise(plan, store, optuna_study, launcher)
    rows = run_rows(plan, store, optuna_study)
    write_trials_csv(plan, rows)
    failed = [row for row in rows if row["status"] not in ("complete", "pruned")]
    if failed:
        reasons = "; ".join(f"{row['run_dir']}: {row['error'] or row['status']}" for row in failed[:3])
        raise WorkError(
            f"{len(failed)} of {len(rows)} runs are not complete ({reasons}); logs in {plan.directory}/logs"
        )
    return {**_describe(plan), "runs": rows, **_compare_trials(plan, store, optuna_study)}


def status(study: str | None, space: str | None, storage: str | None = None) -> dict[str, Any]:
    """Return the state of a study, without starting, writing or locking anything.

    Raises:
        RequestError: there is no such study, or its file names a storage that has not been approved.
    """
    plan = find_study(study or (Path(space).stem if space else None))
    refuse_storage(plan, storage)
    from progrpo_cli.studies.trial_tables import run_rows

    store, optuna_study = read_study(plan)
    rows = run_rows(plan, store, optuna_study)
    return {**_describe(plan), "runs": rows, **_compare_trials(plan, store, optuna_study)}


def work(study: str | None, storage: str | None, *, trust_config: bool = False) -> None:
    """Work on an existing study until no run is left that this worker can take.

    Args:
        study: the study's name or directory. If it is not on this machine, it is read from the storage.
        storage: URL of the study's storage; None: as its ``study.yaml`` says.
        trust_config: accept the demands of the study's frozen configuration, which may come from somebody else.

    Raises:
        RequestError: there is no such study, or it makes demands that have not been approved.
    """
    if study is None:
        raise RequestError("--worker needs --study: the name or directory of a study that was started")
    check_url(storage, workers=1)
    try:
        plan = find_study(study)
    except RequestError:
        if storage is None:
            raise
        plan = fetch_plan(study, storage)
    if storage not in (None, plan.storage):
        check_url(plan.storage, workers=1)
        raise RequestError(f"study {plan.directory} is kept in {plan.storage or 'its journal'}, not in {storage}")
    if not trust_config:
        refuse_storage(plan, storage)
        refuse_demands(plan)
    plan.refuse_other_versions()
    with heavy_imports():  # imported here, since it can take half a minute, which is not part of the first run's time
        import progrpo_cli.sampling.hf
        import progrpo_cli.training.run  # noqa: F401
        from progrpo_cli.studies.run_one import train_and_evaluate
        from progrpo_cli.studies.worker import work as work_here

    work_here(plan, open_store(plan.directory, plan.storage), train_and_evaluate)


def _describe(plan: Plan) -> dict[str, Any]:
    objectives = [objective.model_dump() for objective in plan.space.objectives]
    return {
        "study": plan.name,
        "study_dir": str(plan.directory),
        "objective": objectives[0],
        "objectives": objectives,
    }


def _compare_trials(plan: Plan, store: Store | None, optuna_study: Any) -> dict[str, Any]:
    from progrpo_cli.studies.trial_tables import trial_table, verdict

    if store is None:
        return {"trials": [], "verdict": None}
    table = trial_table(plan, store, optuna_study)
    return {"trials": table, "verdict": verdict(plan, store, table)}


def _require_generation(plan: Plan) -> None:
    configs = [*(trial.config for trial in plan.grid), *(validate(base.config) for base in plan.bases)]
    generations = {config.train.generation for config in configs}
    for generation in generations:
        require_generation(generation)
    if plan.space.workers > 1 and any(generation.mode == "server" for generation in generations):
        raise RequestError(
            f"train.generation.mode=server: a server holds one run's weights at a time, and there are "
            f"{plan.space.workers} workers; try --workers 1"
        )
