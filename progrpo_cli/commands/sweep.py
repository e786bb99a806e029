"""``progrpo sweep``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progrpo_cli.console import log, results
from progrpo_cli.errors import RequestError, WorkError, nearest
from progrpo_cli.heavy import heavy_imports
from progrpo_cli.sampling.vllm_setup import require_generation
from progrpo_cli.studies.plan import Plan, load_plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import SAMPLERS, Space, changed, load_space, own_file
from progrpo_cli.studies.storage import Store, check_url, open_store
from progrpo_cli.studies.trust import refuse_demands, refuse_options_of_slurm, refuse_storage
from progrpo_cli.tracking.wandb_run import wandb_mode

RUNS = Path("runs")
LAUNCHERS = ("local", "slurm")


@dataclass(frozen=True)
class Settings:
    """What the command line asks for; what is None follows the space, or the study that is there."""

    seeds: Sequence[int] | None = None
    trials: int | None = None
    workers: int | None = None
    sampler: str | None = None
    storage: str | None = None
    launcher: str = "local"
    trust_config: bool = False
    """What the space's file asks for is taken from it."""


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
    plan = _plan(space, overrides, settings, study)
    held = plan.directory / "study.yaml"
    if held.exists():
        begun = load_plan(plan.directory)
        begun.refuse_other_versions()
        plan.refuse_other(begun)
    if dry_run:
        from progrpo_cli.studies.estimate import estimate
        from progrpo_cli.studies.look import look
        from progrpo_cli.studies.overview import rows

        found = rows(plan, *(look(plan) if held.exists() else (None, None)))
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
        from progrpo_cli.studies.slurm import require_slurm

        require_slurm(plan.space.slurm)
        if not settings.trust_config:
            refuse_options_of_slurm(plan, own_file(space))
    is_new = _freeze(plan)
    from progrpo_cli.studies.launcher import launched

    # All of a new study is to do, and its workers import for seconds: they begin before we have opened its journal.
    # A database may know the study from another machine, so there we look first.
    at_once = min(plan.space.workers, plan.most_runs) if is_new and plan.storage is None else 0
    with launched(settings.launcher, plan, at_once=at_once) as launcher:
        from progrpo_cli.studies.judge import reconcile
        from progrpo_cli.studies.overview import rows, write_trials_csv
        from progrpo_cli.studies.supervise import supervise

        store, record = _opened(plan)
        if retry_failed:
            failed_trials = [known for known in record.trials() if known.state.name == "FAIL"]
            store.ledger.reset_failures([run.name for k in record.trials() for run in plan.runs_of(k.trial)])
            for known in failed_trials:
                record.reopen(known)
        reconcile(plan, store, record)
        open_runs = sum(row["status"] not in ("complete", "pruned") for row in rows(plan, store, record))
        log.info(f"study {plan.directory}: {open_runs + record.left_to_draw() * len(plan.seeds)} runs to do")
        supervise(plan, store, record, launcher)
    done = write_trials_csv(plan, store, record)
    failed = [row for row in done if row["status"] not in ("complete", "pruned")]
    if failed:
        reasons = "; ".join(f"{row['run_dir']}: {row['error'] or row['status']}" for row in failed[:3])
        raise WorkError(
            f"{len(failed)} of {len(done)} runs are not complete ({reasons}); logs in {plan.directory}/logs"
        )
    return {**_described(plan), "runs": done, **_judged(plan, store, record)}


def status(study: str | None, space: str | None, storage: str | None = None) -> dict[str, Any]:
    """Where a study stands; nothing is started, written or locked.

    Raises:
        RequestError: there is no such study, or its file names a storage that nobody here has asked for.
    """
    plan = _existing(study or (Path(space).stem if space else None))
    refuse_storage(plan, storage)
    from progrpo_cli.studies.look import look
    from progrpo_cli.studies.overview import rows

    store, record = look(plan)
    return {**_described(plan), "runs": rows(plan, store, record), **_judged(plan, store, record)}


def work(study: str | None, storage: str | None, *, trust_config: bool = False) -> None:
    """Be a worker of a study that exists: its name or directory, here or in a storage that other machines share.

    Args:
        study: name or directory.
        storage: where the study is kept; None: what its directory says.
        trust_config: run the code that the study's frozen configuration asks for; it may come from somebody else.

    Raises:
        RequestError: there is no such study, or it runs code and is not trusted.
    """
    if study is None:
        raise RequestError("--worker needs --study: the name or directory of a study that was started")
    check_url(storage, workers=1)
    try:
        plan = _existing(study)
    except RequestError:
        if storage is None:
            raise
        plan = _fetched(study, storage)
    if storage not in (None, plan.storage):
        check_url(plan.storage, workers=1)
        raise RequestError(f"study {plan.directory} is kept in {plan.storage or 'its journal'}, not in {storage}")
    plan.refuse_other_versions()
    if not trust_config:
        refuse_storage(plan, storage)
        refuse_demands(plan)
    with heavy_imports():  # half a minute on a busy machine: not on the first run's clock
        import progrpo_cli.sampling.hf
        import progrpo_cli.training.run  # noqa: F401
        from progrpo_cli.studies.execute import train_and_evaluate
        from progrpo_cli.studies.worker import work as work_here

    work_here(plan, open_store(plan.directory, plan.storage), train_and_evaluate)


def _plan(space: str | None, overrides: list[str], settings: Settings, study: str | None) -> Plan:
    if settings.sampler is not None and settings.sampler not in SAMPLERS:
        raise RequestError(f"--sampler {settings.sampler}: unknown{nearest(settings.sampler, SAMPLERS)}")
    if settings.launcher not in LAUNCHERS:
        raise RequestError(f"--launcher {settings.launcher}: unknown{nearest(settings.launcher, LAUNCHERS)}")
    if settings.trials is not None and settings.trials < 1:
        raise RequestError(f"--trials {settings.trials}: at least 1 is needed")
    if settings.workers is not None and settings.workers < 1:
        raise RequestError(f"--workers {settings.workers}: at least 1 is needed")
    loaded = _with_settings(load_space(space), str(space), settings)
    name = Path(str(space)).stem if study is None else study
    if Path(name).name != name or name in ("", ".", ".."):
        raise RequestError(f"--study {name}: a name without slashes is needed; it becomes a directory of {RUNS}/")
    storage = settings.storage
    if storage is None and (RUNS / name / "study.yaml").is_file():
        held = load_plan(RUNS / name)
        refuse_storage(held, None)
        storage = held.storage
    check_url(storage, workers=loaded.workers)
    plan = make_plan(
        loaded,
        overrides,
        RUNS / name,
        storage=storage,
        space_file=own_file(space),
        trusted=settings.trust_config,
    )
    for base in plan.bases:
        wandb_mode(base.config["tracking"]["wandb"]["mode"])
    return plan


def _with_settings(space: Space, name: str, settings: Settings) -> Space:
    changes: dict[str, Any] = {}
    if settings.seeds is not None:
        changes["seeds"] = list(settings.seeds)
    if settings.trials is not None:
        changes["budget"] = {"trials": settings.trials}
    if settings.workers is not None:
        changes["workers"] = settings.workers
    if settings.sampler is not None:
        changes["sampler"] = space.sampler.model_dump() | {"name": settings.sampler}
    return changed(space, name, changes)


def _freeze(plan: Plan) -> bool:
    """Write the plan once, whoever starts the study at the same time; whether it was us.

    A database is opened first: what cannot be reached is not written down, where it would keep the right one out.
    """
    import fcntl

    try:
        plan.directory.mkdir(parents=True, exist_ok=True)
        lock = (plan.directory / ".freeze.lock").open("ab")
    except OSError as error:
        raise RequestError(f"{plan.directory} cannot be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_new = not plan.is_frozen
        if is_new:
            plan.refuse_foreign()
            if plan.storage is not None:
                open_store(plan.directory, plan.storage)
        plan.freeze()
    return is_new


def _existing(study: str | None) -> Plan:
    if study is None:
        raise RequestError("which study? Name it with --study (or --space)")
    directory = Path(study) if (Path(study) / "study.yaml").is_file() else RUNS / study
    if not (directory / "study.yaml").is_file():
        raise RequestError(f"no study in {directory}; `progrpo sweep --space NAME` starts one")
    return load_plan(directory)


def _fetched(study: str, storage: str) -> Plan:
    """The plan of a study that another machine has started: it is kept in the storage, and from now on here too."""
    from progrpo_cli.studies.record import plan_kept_in

    directory = RUNS / Path(study).name
    plan = plan_kept_in(open_store(directory, storage), directory)
    if plan is None:
        raise RequestError(f"no study {directory.name!r}, neither in {RUNS}/ nor in {storage}")
    _freeze(plan)
    return plan


def _opened(plan: Plan) -> tuple[Store, Any]:
    from progrpo_cli.studies.record import StudyRecord

    store = open_store(plan.directory, plan.storage)
    return store, StudyRecord(plan, store)


def _described(plan: Plan) -> dict[str, Any]:
    objectives = [objective.model_dump() for objective in plan.space.objectives]
    return {
        "study": plan.name,
        "study_dir": str(plan.directory),
        "objective": objectives[0],
        "objectives": objectives,
    }


def _judged(plan: Plan, store: Store | None, record: Any) -> dict[str, Any]:
    from progrpo_cli.studies.overview import trial_table, verdict

    if store is None:
        return {"trials": [], "verdict": None}

    table = trial_table(plan, store, record)
    return {"trials": table, "verdict": verdict(plan, store, table)}


def _require_generation(plan: Plan) -> None:
    configs = [plan.trial(trial.parameters).config for trial in plan.grid]
    from progrpo_cli.config.compose import validate

    ways = {config.train.generation for config in [*configs, *(validate(base.config) for base in plan.bases)]}
    for way in ways:
        require_generation(way)
    if plan.space.workers > 1 and any(way.mode == "server" for way in ways):
        raise RequestError(
            f"train.generation.mode=server: a server holds one run's weights at a time, and there are "
            f"{plan.space.workers} workers; try --workers 1"
        )


def show(result: dict[str, Any]) -> None:
    """Print the plan, or where the study stands, or its trials."""
    from rich.table import Table

    console = results()
    if "estimate" in result or not result["trials"]:
        table = Table(title=f"{result['study_dir']}: {result.get('runs_in_all', len(result['runs']))} runs planned")
        rows = result["runs"]
        left_out = ("error", "updates", "seconds", "worker")
        for column in (
            columns := [c for c in (rows[0] if rows else {}) if "validation/" not in c and c not in left_out]
        ):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
        console.print(table)
        if "estimate" in result:
            console.print(f"{result['runs_to_do']} runs to do: {result['estimate']}", markup=False)
        return
    metrics = [key for key in result["trials"][0] if key.startswith("pass@") or key in ("entropy", "distinct_correct")]
    several = len(result["objectives"]) > 1
    table = Table(
        title=f"{result['study_dir']}: validation split, mean over seeds with 95 % interval, ordered by "
        f"{result['objective']['metric']}"
    )
    for column in ("parameters", "seeds", *metrics, *(["front"] if several else [])):
        table.add_column(column)
    for row in result["trials"]:
        parameters = ", ".join(f"{key}={_short(value)}" for key, value in row["parameters"].items())
        intervals = (f"{row[m]['value']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in metrics)
        table.add_row(parameters, str(row["seeds"]), *intervals, *(["*" if row["front"] else ""] if several else []))
    console.print(table)
    states = [row["status"] for row in result["runs"]]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    console.print(f"runs: {counted}", markup=False)
    if several:
        console.print("*: no other trial is better in every objective", markup=False)
    if result["verdict"]:
        console.print(result["verdict"], markup=False)
    console.print(f"next: progrpo report {result['study_dir']}", markup=False)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
