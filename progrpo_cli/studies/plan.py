"""The plan of a study, frozen in ``study.yaml`` before the first run: the space and every configuration it starts from.

A trial's configuration is a frozen base (one for each choice of groups such as ``method``) with the trial's parameters
set in it. Files are composed once: editing them while a sweep runs changes nothing in it.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from progrpo_cli.config import plain_yaml
from progrpo_cli.config.code_run import KEYS, code_run_by, in_words
from progrpo_cli.config.compose import GROUPS, canonical_json, compose, flatten, keys, validate
from progrpo_cli.config.hashing import config_hash, is_hashed
from progrpo_cli.config.schema import Config
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.records import files
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies.parameters import Value, ends_of
from progrpo_cli.studies.space import Space, parse_space


@dataclass(frozen=True)
class Trial:
    """A set of parameters with the configuration they make; it is run once a seed."""

    parameters: dict[str, Value]
    config: Config
    """With the seed of the base configuration; :meth:`Plan.runs_of` sets each run's own."""

    @cached_property
    def config_hash(self) -> str:
        """The same for all seeds."""
        return config_hash(self.config)


@dataclass(frozen=True)
class Run:
    """One trial with one seed."""

    trial: Trial
    seed: int
    directory: RunDirectory

    @property
    def name(self) -> str:
        """The run's name in ledger and logs: its directory's."""
        return self.directory.name

    @property
    def config(self) -> Config:
        """The configuration with the run's seed."""
        return self.trial.config.model_copy(update={"seed": self.seed})

    @property
    def completions(self) -> int:
        """How many it samples to learn from: its length, as far as that is known before."""
        train = self.trial.config.train
        return train.steps * train.prompts_per_rollout * train.group_size // train.updates_per_rollout


@dataclass(frozen=True)
class Base:
    """The configuration of one choice of groups, before parameters that are single keys are set in it."""

    choices: dict[str, Value]
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a study tries and how it judges."""

    directory: Path
    space: Space
    bases: tuple[Base, ...]
    storage: str | None
    """URL of the storage of trials; None: a journal file in the study's directory."""

    @property
    def name(self) -> str:
        """The study's name: its directory's."""
        return self.directory.name

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.space.seeds)

    @property
    def metrics(self) -> list[str]:
        """What is kept of a run's validation scores, by their names in ``scores.json``."""
        return [*(f"pass@{k}" for k in self.space.k), "entropy", "distinct_correct"]

    def trial(self, parameters: Mapping[str, Value]) -> Trial:
        """The trial of a set of parameters.

        Raises:
            RequestError: the configuration does not take a value.
        """
        for base in self.bases:
            if all(parameters.get(key) == value for key, value in base.choices.items()):
                config = copy.deepcopy(base.config)
                for key, value in parameters.items():
                    if key not in GROUPS:
                        _set(config, key.split("."), value)
                return Trial(dict(parameters), validate(config))
        raise RequestError(f"no configuration was frozen for {dict(parameters)}")

    @cached_property
    def grid(self) -> list[Trial]:
        """Every trial, in order; none where a sampler chooses them as it goes."""
        return [self.trial(found) for found in self.space.grid()] if self.space.sampler.name == "grid" else []

    @property
    def most_runs(self) -> int:
        """How many runs the study has, or will have when a sampler's budget is used up."""
        return len(self.seeds) * (len(self.grid) or self.space.budget.trials or 0)

    @cached_property
    def most_updates(self) -> int:
        """No run of the study makes more."""
        steps = [int(base.config["train"]["steps"]) for base in self.bases]
        varied = self.space.parameters.get("train.steps")
        if varied is None:
            return max(steps)
        return max(int(value) for value in [*ends_of(varied), *(steps if varied.when else [])])

    def runs_of(self, trial: Trial) -> list[Run]:
        """The runs of one trial, a seed each."""
        trials = self.directory / "trials"
        return [Run(trial, seed, RunDirectory(trials / f"{trial.config_hash}-s{seed}")) for seed in self.seeds]

    @cached_property
    def code_run(self) -> dict[str, str]:
        """The settings of the study's configurations that run code without protection."""
        found = {key: "..." for key in KEYS if key in self.space.parameters}
        for base in self.bases:
            found.update(code_run_by(validate(base.config)))
        return found

    def frozen(self) -> dict[str, Any]:
        """The content of ``study.yaml``."""
        return {
            "space": self.space.model_dump(mode="json"),
            "storage": self.storage,
            "bases": [{"choices": base.choices, "config": base.config} for base in self.bases],
            "trials": [{"config_hash": trial.config_hash, "parameters": trial.parameters} for trial in self.grid],
        }

    def freeze(self) -> None:
        """Write ``study.yaml``, or check that the one that is there says the same (the workers may differ).

        Raises:
            RequestError: the directory holds another study; the log has the differences line by line.
        """
        import yaml

        if self.is_frozen:
            self.refuse_other(load_plan(self.directory))
        else:
            files.write_text(self._file, yaml.safe_dump(self.frozen(), sort_keys=False))

    @property
    def _file(self) -> Path:
        return self.directory / "study.yaml"

    @property
    def is_frozen(self) -> bool:
        """Whether there is a plan in the directory, this one or another."""
        return self._file.exists()

    def refuse_foreign(self) -> None:
        """Raise RequestError if the directory holds files that are no study's."""
        if self.directory.exists() and any(not entry.name.startswith(".") for entry in self.directory.iterdir()):
            raise RequestError(f"{self.directory} holds files but no study; choose another --study")

    def refuse_other(self, held: Plan) -> None:
        """Raise RequestError if ``held``, which is under this name already, is another plan; the log has a diff."""
        lines = list(
            difflib.unified_diff(held.described(), self.described(), "the study", "this command", n=0, lineterm="")
        )
        if lines:
            log.error("\n".join(lines))
            changes = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
            shown = "; ".join(changes[:6]) + (f"; and {len(changes) - 6} lines more" if len(changes) > 6 else "")
            raise RequestError(f"study {self.directory} is another one ({shown}); choose another --study")

    def described(self) -> list[str]:
        """The plan as lines to compare: everything but the number of workers and what SLURM is told."""
        import yaml

        space = yaml.safe_dump(
            self.space.model_dump(mode="json", exclude={"workers", "slurm"}), sort_keys=False
        ).splitlines()
        bases = []
        for base in self.bases:
            label = ",".join(f"{key}={value}" for key, value in base.choices.items())
            bases += [f"{label or 'base'}: {key}={value}" for key, value in flatten(validate(base.config)).items()]
        return [*space, f"storage: {self.storage or 'journal'}", *bases]


def make_plan(space: Space, overrides: Sequence[str], directory: Path, *, storage: str | None = None) -> Plan:
    """Compose what the study starts from, and check that every parameter's values are taken.

    Raises:
        RequestError: a parameter, value, seed, override or objective is not valid.
    """
    groups = {key: ends_of(parameter) for key, parameter in space.parameters.items() if key in GROUPS}
    for key, parameter in space.parameters.items():
        if key not in GROUPS and key not in keys():
            raise RequestError(f"parameters: unknown key {key!r}{nearest(key, [*keys(), *GROUPS])}")
        if key in GROUPS and parameter.when:
            raise RequestError(
                f"parameters.{key}.when: {key} is a group, which every trial has; only single keys can have a condition"
            )
        if key == "seed":
            raise RequestError("parameters.seed: a trial is run with all of `seeds`; list them there")
        if key not in GROUPS and not is_hashed(key):
            raise RequestError(f"parameters.{key}: it cannot change a score, so its trials would be the same one")
    for override in (*space.overrides, *overrides):
        key = _key_of(override)
        if key in space.parameters:
            raise RequestError(f"{override!r} sets a parameter that the space varies: its trials would be the same")
        if key == "seed":
            raise RequestError("a sweep runs every trial over its seeds: use --seeds instead of the override seed=")
    if len(set(space.seeds)) < len(space.seeds) or min(space.seeds) < 0 or max(space.seeds) >= 2**32:
        raise RequestError(f"seeds {space.seeds}: different numbers from 0 to {2**32 - 1} are needed")
    bases = []
    for values in product(*groups.values()):
        choices = dict(zip(groups, values, strict=True))
        chosen = [f"{key}={value}" for key, value in choices.items()]
        experiment = [] if "experiment" in groups else [f"experiment={space.experiment}"]
        config = compose([*experiment, *space.overrides, *chosen, *overrides])
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
    """Refuse trials that would be judged on different problems or differ in nothing, and a metric they do not have."""
    found: dict[str, list[Any]] = {}
    for trial in trials:
        for key, value in flatten(trial.config).items():
            section, _, name = key.partition(".")
            if section == "task" and name.split(".")[0] not in trial.config.task.beside_the_problems:
                found.setdefault(key, []).append(value)
    for key, values in found.items():
        different = list(dict.fromkeys(map(canonical_json, values)))
        if len(different) > 1 or len(values) < len(trials):
            shown = _listed([*different, *(["not there"] if len(values) < len(trials) else [])])
            raise RequestError(
                f"{key} is {shown}: scores on different validation problems cannot be compared; make a study of each"
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


def load_plan(directory: Path) -> Plan:
    """The plan as ``study.yaml`` froze it.

    Raises:
        RequestError: there is no study in the directory, or its file is damaged or of an earlier version.
    """
    path = directory / "study.yaml"
    if not path.is_file():
        raise RequestError(f"{directory} is not a study directory: no study.yaml")
    return thawed(plain_yaml.read(path), directory)


def thawed(held: Any, directory: Path) -> Plan:
    """The plan from the content of ``study.yaml``."""
    if not isinstance(held, dict) or not {"space", "storage", "bases"} <= held.keys():
        raise RequestError(f"{directory}/study.yaml is damaged or of another version; choose another --study")
    plain_yaml.refuse_what_is_not_data(held, str(directory / "study.yaml"))
    bases = tuple(Base(base["choices"], base["config"]) for base in held["bases"])
    return Plan(directory, parse_space(held["space"], str(directory / "study.yaml")), bases, held["storage"])


def _set(section: dict[str, Any], parts: list[str], value: Value) -> None:
    for part in parts[:-1]:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
    section[parts[-1]] = value
