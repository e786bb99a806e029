"""What ``progrpo sweep`` does: it runs what is missing of a study, says where it stands, or is one of its workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from progrpo_cli.config.compose import validate
from progrpo_cli.config.paths import RUNS
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.heavy import heavy_imports
from progrpo_cli.sampling.vllm_setup import require_generation
from progrpo_cli.studies.open import Settings, existing, fetched, freeze, opened, requested_plan
from progrpo_cli.studies.plan import Plan, load_plan
from progrpo_cli.studies.space import own_file
from progrpo_cli.studies.storage import Store, check_url, open_store
from progrpo_cli.studies.trust import refuse_demands, refuse_options_of_slurm, refuse_storage


def sweep(
    space: str | None,
    overrides: list[str],
    settings: Settings,
    *,
    study: str | None,
    dry_run: bool,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Run what is missing of a study and return its trials, best first.

    Raises:
        RequestError: the space, an override, a setting or the study's directory is not valid.
        WorkError: runs failed; all others are complete.
    """
    plan = requested_plan(space, overrides, settings, study)
    if plan.is_frozen:
        begun = load_plan(plan.directory)
        begun.refuse_other_versions()
        plan.refuse_other(begun)
    if dry_run:
        from progrpo_cli.studies.estimate import estimate
        from progrpo_cli.studies.look import look
        from progrpo_cli.studies.trial_tables import rows

        found = rows(plan, *(look(plan) if plan.is_frozen else (None, None)))
        open_runs = plan.most_runs - sum(row["status"] in ("complete", "pruned") for row in found)
        return {
            **_described(plan),
            "runs": found,
            "runs_in_all": plan.most_runs,
            "runs_to_do": open_runs,
            "estimate": estimate(plan, found, RUNS),
        }
    _require_generation(plan)
    if settings.launcher == "slurm":
        from progrpo_cli.studies.launchers.slurm import require_slurm

        require_slurm(plan.space.slurm)
        if not settings.trust_config:
            refuse_options_of_slurm(plan, own_file(space))
    is_new = freeze(plan)
    from progrpo_cli.studies.launchers.make import launched

    # All of a new study is to do, and its workers import for seconds: they begin before we have opened its journal.
    # A database may know the study from another machine, so there we look first.
    at_once = min(plan.space.workers, plan.most_runs) if is_new and plan.storage is None else 0
    with launched(settings.launcher, plan, at_once=at_once) as launcher:
        from progrpo_cli.studies.reconcile import reconcile
        from progrpo_cli.studies.supervise import supervise
        from progrpo_cli.studies.trial_tables import rows, write_trials_csv

        store, optuna_study = opened(plan)
        if retry_failed:
            failed_trials = [known for known in optuna_study.trials() if known.state.name == "FAIL"]
            store.ledger.reset_failures([run.name for k in optuna_study.trials() for run in plan.runs_of(k.trial)])
            for known in failed_trials:
                optuna_study.reopen(known)
        reconcile(plan, store, optuna_study)
        open_runs = sum(row["status"] not in ("complete", "pruned") for row in rows(plan, store, optuna_study))
        log.info(f"study {plan.directory}: {open_runs + optuna_study.left_to_draw() * len(plan.seeds)} runs to do")
        supervise(plan, store, optuna_study, launcher)
    done = rows(plan, store, optuna_study)
    write_trials_csv(plan, done)
    failed = [row for row in done if row["status"] not in ("complete", "pruned")]
    if failed:
        reasons = "; ".join(f"{row['run_dir']}: {row['error'] or row['status']}" for row in failed[:3])
        raise WorkError(
            f"{len(failed)} of {len(done)} runs are not complete ({reasons}); logs in {plan.directory}/logs"
        )
    return {**_described(plan), "runs": done, **_judged(plan, store, optuna_study)}


def status(study: str | None, space: str | None, storage: str | None = None) -> dict[str, Any]:
    """Where a study stands; nothing is started, written or locked.

    Raises:
        RequestError: there is no such study, or its file names a storage that nobody here has asked for.
    """
    plan = existing(study or (Path(space).stem if space else None))
    refuse_storage(plan, storage)
    from progrpo_cli.studies.look import look
    from progrpo_cli.studies.trial_tables import rows

    store, optuna_study = look(plan)
    return {**_described(plan), "runs": rows(plan, store, optuna_study), **_judged(plan, store, optuna_study)}


def work(study: str | None, storage: str | None, *, trust_config: bool = False) -> None:
    """Be a worker of a study that exists: its name or directory, here or in a storage that other machines share.

    Args:
        study: name or directory.
        storage: where the study is kept; None: what its directory says.
        trust_config: take what the study's frozen configuration asks for; it may come from somebody else.

    Raises:
        RequestError: there is no such study, or it asks for what somebody else may not ask for.
    """
    if study is None:
        raise RequestError("--worker needs --study: the name or directory of a study that was started")
    check_url(storage, workers=1)
    try:
        plan = existing(study)
    except RequestError:
        if storage is None:
            raise
        plan = fetched(study, storage)
    if storage not in (None, plan.storage):
        check_url(plan.storage, workers=1)
        raise RequestError(f"study {plan.directory} is kept in {plan.storage or 'its journal'}, not in {storage}")
    if not trust_config:
        refuse_storage(plan, storage)
        refuse_demands(plan)
    plan.refuse_other_versions()
    with heavy_imports():  # half a minute on a busy machine: not on the first run's clock
        import progrpo_cli.sampling.hf
        import progrpo_cli.training.run  # noqa: F401
        from progrpo_cli.studies.run_one import train_and_evaluate
        from progrpo_cli.studies.worker import work as work_here

    work_here(plan, open_store(plan.directory, plan.storage), train_and_evaluate)


def _described(plan: Plan) -> dict[str, Any]:
    objectives = [objective.model_dump() for objective in plan.space.objectives]
    return {
        "study": plan.name,
        "study_dir": str(plan.directory),
        "objective": objectives[0],
        "objectives": objectives,
    }


def _judged(plan: Plan, store: Store | None, optuna_study: Any) -> dict[str, Any]:
    from progrpo_cli.studies.trial_tables import trial_table, verdict

    if store is None:
        return {"trials": [], "verdict": None}
    table = trial_table(plan, store, optuna_study)
    return {"trials": table, "verdict": verdict(plan, store, table)}


def _require_generation(plan: Plan) -> None:
    configs = [*(trial.config for trial in plan.grid), *(validate(base.config) for base in plan.bases)]
    ways = {config.train.generation for config in configs}
    for way in ways:
        require_generation(way)
    if plan.space.workers > 1 and any(way.mode == "server" for way in ways):
        raise RequestError(
            f"train.generation.mode=server: a server holds one run's weights at a time, and there are "
            f"{plan.space.workers} workers; try --workers 1"
        )
