"""Opening a study: the plan that a command asks for, the one that is there, and freezing it."""

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
from progrpo_cli.studies.patience import patiently
from progrpo_cli.studies.plan import Plan, load_plan, thawed
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import SAMPLERS, Space, changed, load_space, own_file
from progrpo_cli.studies.storage import Store, check_url, open_store
from progrpo_cli.studies.trust import refuse_storage
from progrpo_cli.tracking.wandb_run import wandb_mode

if TYPE_CHECKING:
    from progrpo_cli.studies.optuna_trials import OptunaStudy

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
    config_dir: Path | None = None


def requested_plan(space: str | None, overrides: list[str], settings: Settings, study: str | None) -> Plan:
    """The plan that a command line asks for; nothing is written.

    Raises:
        RequestError: the space, an override, a setting or the study's name is not valid.
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
        raise RequestError(f"--study {name}: a name without slashes is needed; it becomes a directory of {RUNS}/")
    storage = settings.storage
    if storage is None and is_study(RUNS / name):
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
    return changed(space, name, changes)


def freeze(plan: Plan) -> bool:
    """Write the plan once, whoever starts the study at the same time; whether it was us.

    A database is opened first: what cannot be reached is not written down, where it would keep the right one out.
    """
    with ExitStack() as held:
        try:
            plan.directory.mkdir(parents=True, exist_ok=True)
            held.enter_context(files.locked(plan.directory / ".freeze.lock"))
        except OSError as error:
            raise RequestError(f"{plan.directory} cannot be written: {error.strerror}") from error
        is_new = not plan.is_frozen
        if is_new:
            plan.refuse_foreign()
            if plan.storage is not None:
                open_store(plan.directory, plan.storage)
        plan.freeze()
    return is_new


def existing(study: str | None) -> Plan:
    """The plan of a study that was started here, by its name or directory.

    Raises:
        RequestError: there is none.
    """
    if study is None:
        raise RequestError("which study? Name it with --study (or --space)")
    directory = Path(study) if is_study(Path(study)) else RUNS / study
    if not is_study(directory):
        raise RequestError(f"no study in {directory}; `progrpo sweep --space NAME` starts one")
    return load_plan(directory)


def fetched(study: str, storage: str) -> Plan:
    """The plan of a study that another machine has started: it is kept in the storage, and from now on here too."""
    directory = RUNS / Path(study).name
    plan = plan_kept_in(open_store(directory, storage), directory)
    if plan is None:
        raise RequestError(f"no study {directory.name!r}, neither in {RUNS}/ nor in {storage}")
    freeze(plan)
    return plan


def plan_kept_in(store: Store, directory: Path) -> Plan | None:
    """The plan of a study that was started on another machine; None if the storage does not know it."""
    name = directory.name
    for study in patiently(store.trials.get_all_studies):
        if study.study_name == name and STUDY in study.user_attrs:
            return thawed(json.loads(study.user_attrs[STUDY]), directory)
    return None


def opened(plan: Plan) -> tuple[Store, OptunaStudy]:
    """The storage of a study, and Optuna's trials in it."""
    from progrpo_cli.studies.optuna_trials import OptunaStudy

    store = open_store(plan.directory, plan.storage)
    return store, OptunaStudy(plan, store)
