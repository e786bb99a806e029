"""Make a plan: compose the base configurations, and refuse studies whose trials cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from progrpo_cli.config import versions
from progrpo_cli.config.compose import compose, keys
from progrpo_cli.config.folder import GROUPS
from progrpo_cli.config.hashing import is_hashed
from progrpo_cli.config.values import canonical_json, flatten
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.section import Mark
from progrpo_cli.studies.parameters import Value, boundary_values
from progrpo_cli.studies.plan import Base, Plan, Trial
from progrpo_cli.studies.space import Space
from progrpo_cli.studies.trust import refuse_space_demands


def make_plan(
    space: Space,
    overrides: Sequence[str],
    directory: Path,
    *,
    storage: str | None = None,
    space_file: Path | None = None,
    trusted: bool = False,
    config_dir: Path | None = None,
) -> Plan:
    """Compose the base configurations of a study, and check the values of every parameter.

    Args:
        space: the space to search.
        overrides: the overrides on the command line.
        directory: the study's directory.
        storage: URL of the storage of trials; None: a journal file.
        space_file: the file of the space, which may come from somebody else; None for a shipped space.
        trusted: whether to accept the demands of the space's file.
        config_dir: see :func:`progrpo_cli.config.compose.compose`.

    Raises:
        RequestError: a parameter, value, seed, override or objective is invalid.
    """
    groups = {key: boundary_values(parameter) for key, parameter in space.parameters.items() if key in GROUPS}
    for key, parameter in space.parameters.items():
        # With a config_dir, these may be keys of another package's class; composition checks them.
        checked_later = config_dir is not None and key.startswith(("method.", "task."))
        if key not in (*GROUPS, *keys()) and not checked_later:
            raise RequestError(f"parameters: unknown key {key!r}{nearest(key, [*keys(), *GROUPS])}")
        if key in GROUPS and parameter.when:
            raise RequestError(
                f"parameters.{key}.when: {key} is a group, which every trial has; only single keys can have a condition"
            )
        if key in versions.KEYS:
            raise RequestError(f"parameters.{key}: only the code sets it")
        if key == "train.steps" and space.samples_per_run is not None:
            raise RequestError("parameters.train.steps: samples_per_run decides the steps; leave one of the two out")
        if key == "seed":
            raise RequestError("parameters.seed: every trial is run with all `seeds`; list them there")
        if key not in GROUPS and not is_hashed(key):
            raise RequestError(f"parameters.{key}: it cannot change a score, so all its trials would be the same")
    for override in (*space.overrides, *overrides):
        key = _key_of(override)
        if key in space.parameters:
            raise RequestError(f"{override!r} sets a parameter that the space varies: its trials would be the same")
        if key == "train.steps" and space.samples_per_run is not None:
            raise RequestError(f"{override!r}: samples_per_run decides the number of updates; leave it out")
        if key == "seed":
            raise RequestError("a sweep runs every trial over its seeds: use --seeds instead of the override seed=")
    if len(set(space.seeds)) < len(space.seeds) or min(space.seeds) < 0 or max(space.seeds) >= 2**32:
        raise RequestError(f"seeds {space.seeds}: different numbers from 0 to {2**32 - 1} are needed")
    bases = []
    for values in product(*groups.values()):
        choices = dict(zip(groups, values, strict=True))
        group_overrides = [f"{key}={value}" for key, value in choices.items()]
        experiment = [] if "experiment" in groups else [f"experiment={space.experiment}"]
        config = compose([*experiment, *space.overrides, *group_overrides, *overrides], config_dir=config_dir)
        bases.append(Base(choices, config.model_dump(mode="json")))
    plan = Plan(directory, space, tuple(bases), storage)
    if not trusted:
        refuse_space_demands(plan, space_file, [_key_of(override) for override in overrides])
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Refuse invalid values, objectives and pruners, which would otherwise fail only during the study."""
    for objective in plan.space.objectives:
        if objective.metric not in plan.metrics:
            raise RequestError(
                f"objective {objective.metric!r} is not measured{nearest(objective.metric, plan.metrics)}"
            )
    trials = plan.grid or [plan.trial(parameters) for parameters in _corners(plan.space)]
    _refuse_incomparable(plan, trials)
    for trial in trials:
        if plan.space.pruner.name != "none":
            train = trial.config.train
            if not train.eval_every:
                raise RequestError(
                    f"pruner {plan.space.pruner.name} needs Pass@k during training, which train.eval_every=0 turns "
                    f"off; try train.eval_every={max(1, train.steps // 6)}"
                )
            interim = ["pass@1", f"pass@{train.group_size}"]
            if plan.space.pruner.metric not in (None, *interim):
                raise RequestError(f"pruner metric {plan.space.pruner.metric!r}{nearest('', interim)}")
    sizes = sorted({trial.config.train.group_size for trial in trials})
    if plan.space.pruner.name != "none" and plan.space.pruner.metric != "pass@1" and len(sizes) > 1:
        raise RequestError(
            f"pruner {plan.space.pruner.name}: train.group_size is {_join(sizes)}, and Pass@k of different k cannot "
            f"be compared; use pass@1 (pruner: {{name: {plan.space.pruner.name}, metric: pass@1}})"
        )


def _refuse_incomparable(plan: Plan, trials: Sequence[Trial]) -> None:
    """Refuse trials whose scores would not be comparable, equal trials, and an objective that a task does not measure.

    The rule is that of ``evaluation/scores_file.py``; back end, split and top-p are the same in the whole study.
    """
    values_by_key: dict[str, list[Any]] = {}
    for trial in trials:
        for key, value in flatten(trial.config).items():
            section, _, name = key.partition(".")
            is_task = section == "task" and name.split(".")[0] not in trial.config.task.marked(Mark.UNMEASURED)
            is_sampling = key == "train.temperature" and plan.space.temperature is None
            if is_task or is_sampling or key == "model.dtype":
                values_by_key.setdefault(key, []).append(value)
    for key, values in values_by_key.items():
        distinct = list(dict.fromkeys(map(canonical_json, values)))
        if len(distinct) > 1 or len(values) < len(trials):
            shown = _join([*distinct, *(["missing"] if len(values) < len(trials) else [])])
            if key == "train.temperature":
                raise RequestError(
                    f"{key} is {shown}: scores at different temperatures cannot be compared; give the space a "
                    "`temperature` at which all trials are evaluated, e.g. temperature: 1.0"
                )
            raise RequestError(
                f"{key} is {shown}: scores that are measured differently cannot be compared; make a study of each"
            )
    if plan.space.pruner.name != "none" and len({trial.config.train.temperature for trial in trials}) > 1:
        raise RequestError(
            f"pruner {plan.space.pruner.name} compares Pass@k measured during training at train.temperature, so all "
            "trials need the same temperature; use pruner none"
        )
    if any(objective.metric == "distinct_correct" for objective in plan.space.objectives):
        for task in {trial.config.task.label: trial.config.task for trial in trials}.values():
            if not task.canonical_forms:
                raise RequestError(f"objective distinct_correct: task {task.label} has no canonical form of solutions")
    first: dict[str, Trial] = {}
    for trial in plan.grid:
        if (same := first.setdefault(trial.config_hash, trial)) is not trial:
            raise RequestError(f"{same.parameters} and {trial.parameters} are the same configuration: leave one out")


def _key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _join(values: Sequence[Any]) -> str:
    return " or ".join(map(str, values[:4])) + (" ..." if len(values) > 4 else "")


def _corners(space: Space) -> list[dict[str, Value]]:
    """Return sets of parameters to check: each boundary value of each parameter, with the others at their first value.

    A parameter's condition is met where that parameter is varied.
    """
    corners = []
    for varied, parameter in space.parameters.items():
        required: dict[str, Value] = {condition: allowed[0] for condition, allowed in parameter.when.items()}
        for value in boundary_values(parameter):
            corner: dict[str, Value] = {}
            for key, other in space.parameters.items():
                if other.applies(corner):
                    corner[key] = value if key == varied else required.get(key, boundary_values(other)[0])
            corners.append(corner)
    return corners
