"""The plan of a study, frozen in ``study.yaml`` before the first run: the space and every configuration it starts from.

A trial's configuration is a frozen base (one for each choice of groups such as ``method``) with the trial's parameters
set in it. Files are composed once: editing them while a sweep runs changes nothing in it.
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
from progrpo_cli.studies.parameters import Value, ends_of
from progrpo_cli.studies.space import Space, parse_space

_SIGNATURE = ".study.signature"


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
    is_ours: bool = field(default=True, compare=False)
    """Whether a command of this user made it; what was read from files is so only with this user's signature."""

    @property
    def name(self) -> str:
        """The study's name: its directory's."""
        return self.directory.name

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.space.seeds)

    @property
    def samples(self) -> int:
        """Samples a validation problem, by which runs are judged."""
        from progrpo_cli.evaluation.settings import samples_needed

        return samples_needed(list(self.space.k), None)

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
                if self.space.samples_per_run is not None:
                    config["train"]["steps"] = steps_for(self.space.samples_per_run, config["train"])
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
        return max(self._most_steps(base.config["train"]) for base in self.bases)

    def _most_steps(self, train: Mapping[str, Any]) -> int:
        """With samples given: on the smallest rollouts, with the most updates on each."""

        def ends(key: str) -> list[int]:
            varied = self.space.parameters.get(f"train.{key}")
            if varied is None:
                return [int(train[key])]
            return [int(value) for value in [*ends_of(varied), *([train[key]] if varied.when else [])]]

        if self.space.samples_per_run is None:
            return max(ends("steps"))
        smallest = {key: min(ends(key)) for key in ("prompts_per_rollout", "group_size")}
        return steps_for(
            self.space.samples_per_run, {**smallest, "updates_per_rollout": max(ends("updates_per_rollout"))}
        )

    def runs_of(self, trial: Trial) -> list[Run]:
        """The runs of one trial, a seed each."""
        trials = self.directory / "trials"
        return [Run(trial, seed, RunDirectory(trials / f"{trial.config_hash}-s{seed}")) for seed in self.seeds]

    def demands(self, directory: Path | None = None) -> dict[str, str]:
        """What the study's configurations ask for; files in ``directory`` (default: the study's) are none of it."""
        directory = directory or self.directory
        varied = {key: ends_of(parameter) for key, parameter in self.space.parameters.items() if key not in GROUPS}
        found = demands_of_values(varied, directory)
        for base in self.bases:
            found.update(demands_of(validate(base.config, import_others=False), directory))
        return found

    @cached_property
    def code_imported(self) -> dict[str, str]:
        """What of them is another installed package's."""
        found: dict[str, str] = {}
        for base in self.bases:
            found.update(foreign_classes_of(validate(base.config, import_others=False)))
        return found

    def refuse_other_versions(self) -> None:
        """Raise RequestError if a method or judge of the study's configurations has another version by now."""
        for base in self.bases:
            versions.refuse_other(validate(base.config), f"study {self.directory}")

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
            text = yaml.safe_dump(self.frozen(), sort_keys=False)
            files.write_text(self._file, text)
            if (
                self.is_ours
                and (self.storage or self.demands() or self.code_imported)
                and (signed := signature.sign(text.encode()))
            ):
                files.write_text(self.directory / _SIGNATURE, signed)

    @property
    def _file(self) -> Path:
        return self.directory / STUDY

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


def steps_for(samples: int, train: Mapping[str, Any]) -> int:
    """Updates in which a run samples so many completions: the nearest number of whole rollouts, at least one."""
    rollouts = max(1, round(samples / (train["prompts_per_rollout"] * train["group_size"])))
    return int(rollouts * train["updates_per_rollout"])


def load_plan(directory: Path) -> Plan:
    """The plan as ``study.yaml`` froze it.

    Raises:
        RequestError: there is no study in the directory, or its file is damaged or of an earlier version.
    """
    path = directory / STUDY
    if not path.is_file():
        raise RequestError(f"{directory} is not a study directory: no study.yaml")
    return thawed(plain_yaml.read(path), directory, is_ours=signature.is_signed(path, path.parent / _SIGNATURE))


def thawed(held: Any, directory: Path, *, is_ours: bool = False) -> Plan:
    """The plan from the content of ``study.yaml``; RequestError if it is not one of ours."""
    if not isinstance(held, dict) or not {"space", "storage", "bases"} <= held.keys():
        raise RequestError(f"{directory}/study.yaml is damaged or of another version; choose another --study")
    plain_yaml.refuse_code(held, str(directory / STUDY))
    try:
        bases = tuple(Base(dict(base["choices"]), dict(base["config"])) for base in held["bases"])
        if not bases or not isinstance(held["storage"], str | None):
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{directory}/study.yaml is damaged: it has no list of configurations") from error
    return Plan(directory, parse_space(held["space"], str(directory / STUDY)), bases, held["storage"], is_ours)


def _set(section: dict[str, Any], parts: list[str], value: Value) -> None:
    for part in parts[:-1]:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
    section[parts[-1]] = value
