"""Making a plan: what a study starts from is composed once, and what cannot be compared is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from progrpo_cli.config import versions
from progrpo_cli.config.code_run import in_words
from progrpo_cli.config.compose import compose, keys
from progrpo_cli.config.folder import GROUPS
from progrpo_cli.config.hashing import is_hashed
from progrpo_cli.config.values import canonical_json, flatten
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.section import Mark
from progrpo_cli.studies.parameters import Value, ends_of
from progrpo_cli.studies.plan import Base, Plan, Trial
from progrpo_cli.studies.space import Space


def make_plan(
    space: Space,
    overrides: Sequence[str],
    directory: Path,
    *,
    storage: str | None = None,
    config_dir: Path | None = None,
) -> Plan:
    """Compose what the study starts from, and check that every parameter's values are taken.

    Args:
        space: what is varied.
        overrides: what the command line sets besides.
        directory: the study's.
        storage: see :attr:`Plan.storage`.
        config_dir: see :func:`progrpo_cli.config.compose.compose`.

    Raises:
        RequestError: a parameter, value, seed, override or objective is not valid.
    """
    groups = {key: ends_of(parameter) for key, parameter in space.parameters.items() if key in GROUPS}
    for key, parameter in space.parameters.items():
        later = config_dir is not None and key.startswith(("method.", "task."))  # once it is known whose keys they are
        if key not in (*GROUPS, *keys()) and not later:
            raise RequestError(f"parameters: unknown key {key!r}{nearest(key, [*keys(), *GROUPS])}")
        if key in GROUPS and parameter.when:
            raise RequestError(
                f"parameters.{key}.when: {key} is a group, which every trial has; only single keys can have a condition"
            )
        if key in versions.KEYS:
            raise RequestError(f"parameters.{key}: the code says what it is, nobody sets it")
        if key == "train.steps" and space.samples_per_run is not None:
            raise RequestError("parameters.train.steps: samples_per_run says how many; leave one of the two out")
        if key == "seed":
            raise RequestError("parameters.seed: a trial is run with all of `seeds`; list them there")
        if key not in GROUPS and not is_hashed(key):
            raise RequestError(f"parameters.{key}: it cannot change a score, so its trials would be the same one")
    for override in (*space.overrides, *overrides):
        key = _key_of(override)
        if key in space.parameters:
            raise RequestError(f"{override!r} sets a parameter that the space varies: its trials would be the same")
        if key == "train.steps" and space.samples_per_run is not None:
            raise RequestError(f"{override!r}: samples_per_run says how many updates a run makes; leave it out")
        if key == "seed":
            raise RequestError("a sweep runs every trial over its seeds: use --seeds instead of the override seed=")
    if len(set(space.seeds)) < len(space.seeds) or min(space.seeds) < 0 or max(space.seeds) >= 2**32:
        raise RequestError(f"seeds {space.seeds}: different numbers from 0 to {2**32 - 1} are needed")
    bases = []
    for values in product(*groups.values()):
        choices = dict(zip(groups, values, strict=True))
        chosen = [f"{key}={value}" for key, value in choices.items()]
        experiment = [] if "experiment" in groups else [f"experiment={space.experiment}"]
        config = compose([*experiment, *space.overrides, *chosen, *overrides], config_dir=config_dir)
        bases.append(Base(choices, config.model_dump(mode="json")))
    plan = Plan(directory, space, tuple(bases), storage)
    asked = [_key_of(override) for override in overrides]
    if unasked := {key: value for key, value in plan.code_run.items() if key not in asked}:
        raise RequestError(
            f"the space {in_words(unasked)}: a file cannot ask for that, the command line can "
            f"(`progrpo sweep ... {next(iter(unasked))}=...`)"
        )
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Refuse what would only fail later: each value at an end of its range, objectives, what a pruner looks at."""
    for objective in plan.space.objectives:
        if objective.metric not in plan.metrics:
            raise RequestError(
                f"objective {objective.metric!r} is not measured{nearest(objective.metric, plan.metrics)}"
            )
    trials = plan.grid or [plan.trial(found) for found in _corners(plan.space)]
    _refuse_what_is_not_comparable(plan, trials)
    for trial in trials:
        if plan.space.pruner.name != "none":
            train = trial.config.train
            if not train.eval_every:
                raise RequestError(
                    f"pruner {plan.space.pruner.name} looks at Pass@k while training: train.eval_every=0 measures "
                    f"none; try train.eval_every={max(1, train.steps // 6)}"
                )
            interim = ["pass@1", f"pass@{train.group_size}"]
            if plan.space.pruner.metric not in (None, *interim):
                raise RequestError(f"pruner metric {plan.space.pruner.metric!r}{nearest('', interim)}")
    sizes = sorted({trial.config.train.group_size for trial in trials})
    if plan.space.pruner.name != "none" and plan.space.pruner.metric != "pass@1" and len(sizes) > 1:
        raise RequestError(
            f"pruner {plan.space.pruner.name}: train.group_size is {_listed(sizes)}, and Pass@k of different k cannot "
            f"be compared; let it look at pass@1 (pruner: {{name: {plan.space.pruner.name}, metric: pass@1}})"
        )


def _refuse_what_is_not_comparable(plan: Plan, trials: Sequence[Trial]) -> None:
    """Refuse trials that would not be measured alike or differ in nothing, and a metric they do not have.

    What is measured alike is the rule of ``evaluation/scores_file.py``; back end, split and top-p are the study's.
    """
    found: dict[str, list[Any]] = {}
    for trial in trials:
        for key, value in flatten(trial.config).items():
            section, _, name = key.partition(".")
            is_task = section == "task" and name.split(".")[0] not in trial.config.task.marked(Mark.UNMEASURED)
            is_sampling = key == "train.temperature" and plan.space.temperature is None
            if is_task or is_sampling or key == "model.dtype":
                found.setdefault(key, []).append(value)
    for key, values in found.items():
        different = list(dict.fromkeys(map(canonical_json, values)))
        if len(different) > 1 or len(values) < len(trials):
            shown = _listed([*different, *(["not there"] if len(values) < len(trials) else [])])
            if key == "train.temperature":
                raise RequestError(
                    f"{key} is {shown}: scores at different temperatures cannot be compared; give the space a "
                    "`temperature` at which all trials are evaluated, e.g. temperature: 1.0"
                )
            raise RequestError(
                f"{key} is {shown}: scores that are not measured alike cannot be compared; make a study of each"
            )
    if plan.space.pruner.name != "none" and len({trial.config.train.temperature for trial in trials}) > 1:
        raise RequestError(
            f"pruner {plan.space.pruner.name} looks at Pass@k while training, which is measured at train.temperature: "
            "it cannot compare trials that differ in it; take pruner none"
        )
    if any(objective.metric == "distinct_correct" for objective in plan.space.objectives):
        for task in {trial.config.task.label: trial.config.task for trial in trials}.values():
            if not task.canonical_forms:
                raise RequestError(f"objective distinct_correct: task {task.label} has no canonical form of a solution")
    first: dict[str, Trial] = {}
    for trial in plan.grid:
        if (same := first.setdefault(trial.config_hash, trial)) is not trial:
            raise RequestError(f"{same.parameters} and {trial.parameters} are the same configuration: leave one out")


def _key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _listed(values: Sequence[Any]) -> str:
    return " or ".join(map(str, values[:4])) + (" ..." if len(values) > 4 else "")


def _corners(space: Space) -> list[dict[str, Value]]:
    """Every end of every parameter once, the others at their first value that meets the conditions."""
    corners = []
    for varied, parameter in space.parameters.items():
        for value in ends_of(parameter):
            chosen: dict[str, Value] = {
                condition: allowed[0] for condition, allowed in parameter.when.items()
            }  # so that the varied one applies
            found: dict[str, Value] = {}
            for key, other in space.parameters.items():
                if other.applies(found):
                    found[key] = value if key == varied else chosen.get(key, ends_of(other)[0])
            corners.append(found)
    return corners
