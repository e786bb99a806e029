"""The plan of a study: every trial with its whole configuration, frozen in ``study.yaml`` before the first run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progrpo_cli.config import plain_yaml
from progrpo_cli.config.compose import compose, validate
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError
from progrpo_cli.records import files
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies.space import Objective, Space, Value


@dataclass(frozen=True)
class Trial:
    """A set of parameters with the configuration they make; it is run once a seed."""

    parameters: dict[str, Value]
    config: Config
    """With the seed of the configuration; :meth:`Plan.runs` sets each run's own."""

    @property
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
    def config(self) -> Config:
        """The configuration with the run's seed."""
        return self.trial.config.model_copy(update={"seed": self.seed})

    @property
    def validation(self) -> dict[str, Any] | None:
        """The validation scores that the study looks at, or None while the run is not complete."""
        if not self.directory.exists:
            return None
        scores: dict[str, Any] | None = self.directory.manifest().get("validation")
        return scores


@dataclass(frozen=True)
class Plan:
    """All trials of a study and how they are judged."""

    directory: Path
    trials: tuple[Trial, ...]
    seeds: tuple[int, ...]
    objective: Objective
    k: tuple[int, ...]
    workers: int

    @property
    def name(self) -> str:
        """The study's name: its directory's."""
        return self.directory.name

    @property
    def metrics(self) -> list[str]:
        """What is kept of a run's validation scores, by their names in ``scores.json``."""
        return [*(f"pass@{k}" for k in self.k), "entropy", "distinct_correct"]

    def runs(self) -> Iterator[Run]:
        """Every planned run, all seeds of a trial before the next trial."""
        for trial in self.trials:
            yield from self.runs_of(trial)

    def runs_of(self, trial: Trial) -> list[Run]:
        """The runs of one trial, a seed each."""
        return [
            Run(trial, seed, RunDirectory(self.directory / "trials" / f"{trial.config_hash}-s{seed}"))
            for seed in self.seeds
        ]

    def frozen(self) -> dict[str, Any]:
        """The content of ``study.yaml``."""
        return {
            "seeds": list(self.seeds),
            "objective": self.objective.model_dump(),
            "k": list(self.k),
            "workers": self.workers,
            "trials": [
                {"config_hash": t.config_hash, "parameters": t.parameters, "config": t.config.model_dump(mode="json")}
                for t in self.trials
            ],
        }

    def freeze(self) -> None:
        """Write ``study.yaml``, or check that the one that is there says the same (the workers may differ).

        Raises:
            RequestError: the directory holds another study; the message names what differs.
        """
        import yaml

        path = self.directory / "study.yaml"
        if not path.exists():
            if self.directory.exists() and any(self.directory.iterdir()):
                raise RequestError(f"{self.directory} holds files but no study; choose another --study")
            files.write_text(path, yaml.safe_dump(self.frozen(), sort_keys=False))
            return
        held = plain_yaml.read(path)
        ours = self.frozen()
        different = [key for key in ("seeds", "objective", "k") if held[key] != ours[key]]
        differences = [f"{key} is {held[key]}, not {ours[key]}" for key in different]
        hashes = [[trial["config_hash"] for trial in content["trials"]] for content in (held, ours)]
        if hashes[0] != hashes[1]:
            kept = [str(t["parameters"]) for t in held["trials"]]
            asked = [str(t["parameters"]) for t in ours["trials"]]
            differences.append(
                f"trials are {', '.join(kept)}, not {', '.join(asked)}"
                if kept != asked
                else "its trials have another configuration than the files and overrides make now"
            )
        elif [trial["config"] for trial in held["trials"]] != [trial["config"] for trial in ours["trials"]]:
            differences.append("it was frozen with other tracking, device, save_every or eval_every")
        if differences:
            raise RequestError(
                f"study {self.directory} is another one: {'; '.join(differences)}; choose another --study"
            )


def make_plan(
    space: Space,
    overrides: Sequence[str],
    directory: Path,
    *,
    seeds: Sequence[int] | None = None,
    workers: int | None = None,
) -> Plan:
    """Compose every trial of the grid.

    Raises:
        RequestError: a parameter, value, seed or the objective is not valid.
    """
    trials = []
    for parameters in space.grid():
        chosen = [f"{key}={_as_override(value)}" for key, value in parameters.items()]
        groups_first = sorted(chosen, key=lambda override: "." in override.partition("=")[0])
        trials.append(Trial(parameters, compose([*space.overrides, *groups_first, *overrides])))
    hashes = [trial.config_hash for trial in trials]
    if len(set(hashes)) < len(hashes):
        raise RequestError("an override sets a parameter that the space varies: its trials would all be the same")
    seeds = space.seeds if seeds is None else seeds
    if len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise RequestError(f"seeds {list(seeds)}: different numbers from 0 to {2**32 - 1} are needed")
    if any(override.lstrip("+").startswith("seed=") for override in overrides):
        raise RequestError("a sweep runs every trial over its seeds: use --seeds instead of the override seed=")
    if workers is not None and workers < 1:
        raise RequestError(f"--workers {workers}: at least 1 is needed")
    plan = Plan(directory, tuple(trials), tuple(seeds), space.objective, tuple(space.k), workers or space.workers)
    if plan.objective.metric not in plan.metrics:
        raise RequestError(f"objective {plan.objective.metric!r} is not among {', '.join(plan.metrics)}")
    return plan


def load_plan(directory: Path) -> Plan:
    """The plan as ``study.yaml`` froze it.

    Raises:
        RequestError: there is no study in the directory.
    """
    path = directory / "study.yaml"
    if not path.is_file():
        raise RequestError(f"{directory} is not a study directory: no study.yaml")
    held = plain_yaml.read(path)
    return Plan(
        directory,
        tuple(Trial(trial["parameters"], validate(trial["config"])) for trial in held["trials"]),
        tuple(held["seeds"]),
        Objective.model_validate(held["objective"]),
        tuple(held["k"]),
        held["workers"],
    )


def _as_override(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
