"""Make, find, freeze and open studies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progrpo_cli.config.paths import RUNS
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.records import files
from progrpo_cli.records.find import is_study
from progrpo_cli.records.layout import STUDY
from progrpo_cli.studies.patience import retry_until_available
from progrpo_cli.studies.plan import Plan, load_plan, parse_plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import SAMPLERS, Space, load_space, own_file, replace_settings
from progrpo_cli.studies.storage import Store, check_url, open_store, read_store
from progrpo_cli.studies.trust import refuse_storage
from progrpo_cli.tracking.wandb_run import wandb_mode

if TYPE_CHECKING:
    from progrpo_cli.studies.optuna_trials import OptunaStudy

LAUNCHERS = ("local", "slurm")


@dataclass(frozen=True)
class Settings:
    """The options of the command line; None: as the space or the existing study has it."""

    seeds: Sequence[int] | None = None
    trials: int | None = None
    workers: int | None = None
    sampler: str | None = None
    storage: str | None = None
    launcher: str = "local"
    trust_config: bool = False
    """Whether to accept the demands of the space's file."""
    config_dir: Path | None = None


def requested_plan(space: str | None, overrides: list[str], settings: Settings, study: str | None) -> Plan:
    """Make the plan of a command line, without writing anything.

    Raises:
        RequestError: the space, an override, a setting or the study's name is invalid.
    """
    if settings.sampler is not None and settings.sampler not in SAMPLERS:
        raise RequestError(f"--sampler {settings.sampler}: unknown{nearest(settings.sampler, SAMPLERS)}")
    if settings.launcher not in LAUNCHERS:
        raise RequestError(f"--launcher {settings.launcher}: unknown{nearest(settings.launcher, LAUNCHERS)}")
    if settings.trials is not None and settings.trials < 1:
        raise RequestError(f"--trials {settings.trials}: at least 1 is needed")
    if settings.workers is not None and settings.workers < 1:
        raise RequestError(f"--workers {settings.workers}: at least 1 is needed")
    loaded = _with_settings(load_space(space, settings.config_dir), str(space), settings)
    name = Path(str(space)).stem if study is None else study
    if Path(name).name != name or name in ("", ".", ".."):
        raise RequestError(f"--study {name}: a name without slashes is needed; it becomes a directory in {RUNS}/")
    storage = settings.storage
    if storage is None and is_study(RUNS / name):
        existing = load_plan(RUNS / name)
        refuse_storage(existing, None)
        storage = existing.storage
    check_url(storage, workers=loaded.workers)
    plan = make_plan(
        loaded,
        overrides,
        RUNS / name,
        storage=storage,
        space_file=own_file(space),
        trusted=settings.trust_config,
        config_dir=settings.config_dir,
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
    return replace_settings(space, name, changes)


def freeze(plan: Plan) -> bool:
    """Write ``study.yaml`` if it is missing, also when several commands start the study at the same time.

    The database is opened first. If it cannot be reached, nothing is written, so that the command can be repeated with
    another URL.

    Returns:
        Whether this call wrote the file.

    Raises:
        RequestError: the directory cannot be written, or holds another plan.
        WorkError: the database cannot be reached.
    """
    with ExitStack() as stack:
        try:
            plan.directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(plan.directory / ".freeze.lock"))
        except OSError as error:
            raise RequestError(f"{plan.directory} cannot be written: {error.strerror}") from error
        is_new = not plan.is_frozen
        if is_new:
            plan.refuse_foreign()
            if plan.storage is not None:
                open_store(plan.directory, plan.storage)
        plan.freeze()
    return is_new


def find_study(study: str | None) -> Plan:
    """Return the plan of a study on this machine, given its name or directory.

    Raises:
        RequestError: there is no such study.
    """
    if study is None:
        raise RequestError("which study? Name it with --study (or --space)")
    directory = Path(study) if is_study(Path(study)) else RUNS / study
    if not is_study(directory):
        raise RequestError(f"no study in {directory}; `progrpo sweep --space NAME` starts one")
    return load_plan(directory)


def fetch_plan(study: str, storage: str) -> Plan:
    """Read the plan of a study that was started on another machine from the storage, and freeze it here.

    Raises:
        RequestError: the storage has no such study.
        WorkError: the database cannot be reached.
    """
    directory = RUNS / Path(study).name
    plan = read_stored_plan(open_store(directory, storage), directory)
    if plan is None:
        raise RequestError(f"no study {directory.name!r}, neither in {RUNS}/ nor in {storage}")
    freeze(plan)
    return plan


def read_stored_plan(store: Store, directory: Path) -> Plan | None:
    """Return the plan that the storage holds for the study of this name; None if there is none."""
    name = directory.name
    for study in retry_until_available(store.trials.get_all_studies):
        if study.study_name == name and STUDY in study.user_attrs:
            return parse_plan(json.loads(study.user_attrs[STUDY]), directory)
    return None


def open_study(plan: Plan) -> tuple[Store, OptunaStudy]:
    """Open the storage of a study and its trials; both are created if they are missing."""
    from progrpo_cli.studies.optuna_trials import OptunaStudy

    store = open_store(plan.directory, plan.storage)
    return store, OptunaStudy(plan, store)


def read_study(plan: Plan) -> tuple[Store | None, OptunaStudy | None]:
    """Open a study for reading, without creating, locking or changing anything; Nones if it has no trials yet."""
    store = read_store(plan.directory, plan.storage)
    if store is None:
        return None, None
    from progrpo_cli.studies.optuna_trials import OptunaStudy

    try:
        return store, OptunaStudy(plan, store, read_only=True)
    except KeyError:  # the storage has no study of this name yet
        return None, None
