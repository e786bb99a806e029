"""The plan of a study, frozen in ``study.yaml`` before the first run: the space and its base configurations.

There is a base configuration for each choice of groups such as ``method``. A trial's configuration is a base with the
trial's parameters set in it. Configurations are composed once, so editing their files does not affect a running sweep.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from progrpo_cli.config import plain_yaml, versions
from progrpo_cli.config.compose import validate
from progrpo_cli.config.demands import demands_of, demands_of_values, foreign_classes_of
from progrpo_cli.config.folder import GROUPS
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.config.schema import Config
from progrpo_cli.config.values import flatten
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.records import files, signature
from progrpo_cli.records.layout import STUDY
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies.parameters import Value, boundary_values
from progrpo_cli.studies.space import Space, parse_space

_SIGNATURE = ".study.signature"


@dataclass(frozen=True)
class Trial:
    """A set of parameters and the resulting configuration. It is run once with each seed."""

    parameters: dict[str, Value]
    config: Config
    """It has the seed of the base configuration; :attr:`Run.config` has the seed of the run."""

    @cached_property
    def config_hash(self) -> str:
        """The hash of the configuration, which is the same for all seeds."""
        return config_hash(self.config)


@dataclass(frozen=True)
class Run:
    """One trial with one seed."""

    trial: Trial
    seed: int
    directory: RunDirectory

    @property
    def name(self) -> str:
        """The run's name in the ledger and in logs: the name of its directory."""
        return self.directory.name

    @property
    def config(self) -> Config:
        """The configuration with the run's seed."""
        return self.trial.config.model_copy(update={"seed": self.seed})

    @property
    def completions(self) -> int:
        """How many completions the run samples for training, as a measure of its length."""
        train = self.trial.config.train
        return train.steps * train.prompts_per_rollout * train.group_size // train.updates_per_rollout


@dataclass(frozen=True)
class Base:
    """The configuration for one choice of groups, before a trial's other parameters are set in it."""

    choices: dict[str, Value]
    config: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The configurations that a study tries, and how they are compared."""

    directory: Path
    space: Space
    bases: tuple[Base, ...]
    storage: str | None
    """URL of the storage of trials; None: a journal file in the study's directory."""
    is_ours: bool = field(default=True, compare=False)
    """Whether a command of this user made the plan. A plan from a file needs this user's signature."""

    @property
    def name(self) -> str:
        """The study's name: the name of its directory."""
        return self.directory.name

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.space.seeds)

    @property
    def samples(self) -> int:
        """Samples per validation problem when a run is evaluated."""
        from progrpo_cli.evaluation.settings import samples_needed

        return samples_needed(list(self.space.k), None)

    @property
    def metrics(self) -> list[str]:
        """The metrics of a run's validation scores that are recorded, by their names in ``scores.json``."""
        return [*(f"pass@{k}" for k in self.space.k), "entropy", "distinct_correct"]

    def trial(self, parameters: Mapping[str, Value]) -> Trial:
        """Return the trial of a set of parameters.

        Raises:
            RequestError: a value is not valid in the configuration.
        """
        for base in self.bases:
            if all(parameters.get(key) == value for key, value in base.choices.items()):
                config = copy.deepcopy(base.config)
                for key, value in parameters.items():
                    if key not in GROUPS:
                        _set(config, key.split("."), value)
                if self.space.samples_per_run is not None:
                    config["train"]["steps"] = steps_for(self.space.samples_per_run, config["train"])
                return Trial(dict(parameters), validate(config))
        raise RequestError(f"no configuration was frozen for {dict(parameters)}")

    @cached_property
    def grid(self) -> list[Trial]:
        """All trials of a grid, in order; empty if a sampler draws them."""
        return [self.trial(parameters) for parameters in self.space.grid()] if self.space.sampler.name == "grid" else []

    @property
    def max_runs(self) -> int:
        """The number of runs, once a sampler's budget is used up."""
        return len(self.seeds) * (len(self.grid) or self.space.budget.trials or 0)

    @cached_property
    def max_updates(self) -> int:
        """The largest number of updates that a run of the study can make."""
        return max(self._max_steps(base.config["train"]) for base in self.bases)

    def _max_steps(self, train: Mapping[str, Any]) -> int:
        """With ``samples_per_run``, the smallest rollouts with the most updates on each need the most steps."""

        def boundaries(key: str) -> list[int]:
            varied = self.space.parameters.get(f"train.{key}")
            if varied is None:
                return [int(train[key])]
            return [int(value) for value in [*boundary_values(varied), *([train[key]] if varied.when else [])]]

        if self.space.samples_per_run is None:
            return max(boundaries("steps"))
        smallest = {key: min(boundaries(key)) for key in ("prompts_per_rollout", "group_size")}
        most_updates = max(boundaries("updates_per_rollout"))
        return steps_for(self.space.samples_per_run, {**smallest, "updates_per_rollout": most_updates})

    def runs_of(self, trial: Trial) -> list[Run]:
        """Return the runs of a trial, one for each seed."""
        trials = self.directory / "trials"
        return [Run(trial, seed, RunDirectory(trials / f"{trial.config_hash}-s{seed}")) for seed in self.seeds]

    def demands(self, directory: Path | None = None) -> dict[str, str]:
        """Return the demands of the study's configurations; ``directory`` (default: the study's) as in demands_of."""
        directory = directory or self.directory
        parameters = self.space.parameters.items()
        varied = {key: boundary_values(parameter) for key, parameter in parameters if key not in GROUPS}
        demands = demands_of_values(varied, directory)
        for base in self.bases:
            demands.update(demands_of(validate(base.config, import_others=False), directory))
        return demands

    @cached_property
    def foreign_classes(self) -> dict[str, str]:
        """The keys of the study's configurations that name a class of another package, with those names."""
        configs = [validate(base.config, import_others=False) for base in self.bases]
        return {key: name for config in configs for key, name in foreign_classes_of(config).items()}

    def refuse_other_versions(self) -> None:
        """Raise RequestError if the version of a method or judge has changed since the study was started."""
        for base in self.bases:
            versions.refuse_other(validate(base.config), f"study {self.directory}")

    def frozen(self) -> dict[str, Any]:
        """Return the content of ``study.yaml``."""
        return {
            "space": self.space.model_dump(mode="json"),
            "storage": self.storage,
            "bases": [{"choices": base.choices, "config": base.config} for base in self.bases],
            "trials": [{"config_hash": trial.config_hash, "parameters": trial.parameters} for trial in self.grid],
        }

    def freeze(self) -> None:
        """Write ``study.yaml``, or check that the existing one has the same plan (the number of workers may differ).

        Raises:
            RequestError: the directory holds another plan; the log has the differences line by line.
        """
        import yaml

        if self.is_frozen:
            self.refuse_other(load_plan(self.directory))
        else:
            text = yaml.safe_dump(self.frozen(), sort_keys=False)
            files.write_text(self._file, text)
            needs_signature = self.is_ours and (self.storage or self.demands() or self.foreign_classes)
            if needs_signature and (signature_text := signature.sign(text.encode())):
                files.write_text(self.directory / _SIGNATURE, signature_text)

    @property
    def _file(self) -> Path:
        return self.directory / STUDY

    @property
    def is_frozen(self) -> bool:
        """Whether the directory holds a plan, this one or another."""
        return self._file.exists()

    def refuse_foreign(self) -> None:
        """Raise RequestError if the directory holds files but no study."""
        if self.directory.exists() and any(not entry.name.startswith(".") for entry in self.directory.iterdir()):
            raise RequestError(f"{self.directory} holds files but no study; choose another --study")

    def refuse_other(self, existing: Plan) -> None:
        """Raise RequestError if the existing plan under this name differs from this one; log the differences."""
        old, new = existing.comparison_lines(), self.comparison_lines()
        lines = list(difflib.unified_diff(old, new, "the study", "this command", n=0, lineterm=""))
        if lines:
            log.error("\n".join(lines))
            changes = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
            shown = "; ".join(changes[:6]) + (f"; and {len(changes) - 6} more lines" if len(changes) > 6 else "")
            raise RequestError(f"study {self.directory} has another plan ({shown}); choose another --study")

    def comparison_lines(self) -> list[str]:
        """Return the plan as lines of text, without the number of workers and SLURM's options, which may differ."""
        import yaml

        space = yaml.safe_dump(self.space.model_dump(mode="json", exclude={"workers", "slurm"}), sort_keys=False)
        bases = []
        for base in self.bases:
            label = ",".join(f"{key}={value}" for key, value in base.choices.items())
            bases += [f"{label or 'base'}: {key}={value}" for key, value in flatten(validate(base.config)).items()]
        return [*space.splitlines(), f"storage: {self.storage or 'journal'}", *bases]


def steps_for(samples: int, train: Mapping[str, Any]) -> int:
    """Return the updates in which a run samples ``samples`` completions, rounded to whole rollouts, at least one."""
    rollouts = max(1, round(samples / (train["prompts_per_rollout"] * train["group_size"])))
    return int(rollouts * train["updates_per_rollout"])


def load_plan(directory: Path) -> Plan:
    """Read the plan in ``study.yaml``.

    Raises:
        RequestError: the directory holds no study, or its file is damaged or of another version.
    """
    path = directory / STUDY
    if not path.is_file():
        raise RequestError(f"{directory} is not a study directory: no study.yaml")
    return parse_plan(plain_yaml.read(path), directory, is_ours=signature.is_signed(path, path.parent / _SIGNATURE))


def parse_plan(content: Any, directory: Path, *, is_ours: bool = False) -> Plan:
    """Parse the content of ``study.yaml``.

    Raises:
        RequestError: it is damaged, of another version, or holds more than data.
    """
    if not isinstance(content, dict) or not {"space", "storage", "bases"} <= content.keys():
        raise RequestError(f"{directory}/study.yaml is damaged or of another version; choose another --study")
    plain_yaml.refuse_code(content, str(directory / STUDY))
    try:
        bases = tuple(Base(dict(base["choices"]), dict(base["config"])) for base in content["bases"])
        if not bases or not isinstance(content["storage"], str | None):
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{directory}/study.yaml is damaged: it has no list of configurations") from error
    return Plan(directory, parse_space(content["space"], str(directory / STUDY)), bases, content["storage"], is_ours)


def _set(section: dict[str, Any], parts: list[str], value: Value) -> None:
    for part in parts[:-1]:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
    section[parts[-1]] = value
