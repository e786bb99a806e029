"""A space: what a sweep varies, over which seeds, and what it looks at. One YAML file of ``sweeps/`` each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from progrpo_cli.config import folder, plain_yaml
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.studies.parameters import Parameter, Value, grid_of

SAMPLERS = ("grid", "tpe", "nsga2", "random")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Objective(_Part):
    """A metric of the validation scores, and which way is better."""

    metric: str
    direction: Literal["maximize", "minimize"] = "maximize"


class Sampler(_Part):
    """Who chooses the parameters of the next trial; ``sampler: tpe`` is short for ``sampler: {name: tpe}``."""

    name: Literal["grid", "tpe", "nsga2", "random"] = "grid"
    """All combinations in order, the tree-structured Parzen estimator, NSGA-II (several objectives), or at random."""
    seed: Annotated[int, Field(ge=0)] = 0
    """With the trial's number it fixes the draw: a restart does not repeat earlier draws."""
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Of tpe: so many trials are drawn at random first."""
    population: Annotated[int, Field(ge=2)] = 16
    """Of nsga2: trials in a generation."""


class Pruner(_Part):
    """When a trial is given up, by Pass@k on the validation split every ``train.eval_every`` updates."""

    name: Literal["none", "median", "halving"] = "none"
    """median: worse than the median of the others at the same point; halving: asynchronous successive halving."""
    metric: str | None = None
    """``pass@1`` or ``pass@<group size>``, what is measured while training; None: the larger k."""
    startup_trials: Annotated[int, Field(ge=1)] = 4
    """Of median: nothing is pruned before so many trials have ended."""
    min_seeds: Annotated[int, Field(ge=1)] = 2
    """A trial is judged on the mean over at least so many of its first seeds (fewer if the study has fewer)."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """Of halving: one of so many goes on at each rung."""


class Budget(_Part):
    """How much a study may try."""

    trials: Annotated[int, Field(ge=1)] | None = None
    """Sets of parameters; None (grid only): all of them."""


def _named(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


class Space(_Part):
    """The content of ``sweeps/NAME.yaml``."""

    experiment: str = "lab"
    """The base experiment, of ``experiments/experiment/``."""
    overrides: list[str] = []
    """What every run of the study has besides the experiment, in Hydra's grammar."""
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)]
    """For each configuration key (or group, as ``method``) what it may be."""
    seeds: Annotated[list[int], Field(min_length=1)]
    """Every trial is run once with each."""
    objectives: Annotated[list[Objective], Field(min_length=1)]
    k: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [1, 32]
    """The k of Pass@k on the validation split."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """At which all trials are evaluated there; None: at ``train.temperature``, which the space then cannot vary."""
    samples_per_run: Annotated[int, Field(ge=1)] | None = None
    """Completions that every run samples to learn from, in whole rollouts: `train.steps` follows from the trial's
    `train.prompts_per_rollout`, `train.group_size` and `train.updates_per_rollout`. None: `train.steps` says."""
    budget: Budget = Budget()
    sampler: Annotated[Sampler, BeforeValidator(_named)] = Sampler()
    pruner: Annotated[Pruner, BeforeValidator(_named)] = Pruner()
    retries: Annotated[int, Field(ge=0)] = 3
    """How often in all a run that failed is tried again."""
    minutes_per_run: Annotated[float, Field(gt=0)] | None = None
    """A run that takes longer (training and evaluation) has failed; None: no limit."""
    workers: Annotated[int, Field(ge=1)] = 2
    slurm: dict[str, str | int] = {}
    """For ``--launcher slurm``, a job a worker: sbatch's options as submitit names them, e.g. ``partition``, ``time``
    (minutes), ``cpus_per_task``, ``gres``."""

    @model_validator(mode="after")
    def _the_parts_fit(self) -> Space:
        if self.sampler.name != "grid" and self.budget.trials is None:
            raise ValueError(f"sampler {self.sampler.name} needs budget.trials (or --trials)")
        if self.sampler.name == "grid":
            for key, parameter in self.parameters.items():
                grid_of(key, parameter)
        if self.sampler.name == "nsga2" and len(self.objectives) < 2:
            raise ValueError("sampler nsga2 is for several objectives; with one take tpe")
        if len({objective.metric for objective in self.objectives}) < len(self.objectives):
            raise ValueError("an objective stands there twice")
        if self.pruner.name != "none" and len(self.objectives) > 1:
            raise ValueError(
                f"pruner {self.pruner.name}: with several objectives there is no one value to prune by, and Optuna "
                "cannot; take pruner none"
            )
        if self.pruner.name != "none" and self.objectives[0].direction == "minimize":
            raise ValueError(f"pruner {self.pruner.name}: interim Pass@k says nothing of an objective to minimize")
        before: list[str] = []
        for key, parameter in self.parameters.items():
            for other in parameter.when:
                if other not in before:
                    raise ValueError(f"parameters.{key}.when: {other} is not a parameter that stands before it")
            before.append(key)
        return self

    def grid(self) -> list[dict[str, Value]]:
        """Every combination of the parameters' values, the last parameter varying fastest.

        A parameter whose condition is not met is left out, and what is then the same stands there once.
        """
        unique = {tuple(found.items()): found for found in self._combinations({}, list(self.parameters))}
        return list(unique.values())[: self.budget.trials]

    def _combinations(self, chosen: dict[str, Value], keys: list[str]) -> Iterator[dict[str, Value]]:
        if not keys:
            yield chosen
        elif not self.parameters[keys[0]].applies(chosen):
            yield from self._combinations(chosen, keys[1:])
        else:
            for value in grid_of(keys[0], self.parameters[keys[0]]):
                yield from self._combinations({**chosen, keys[0]: value}, keys[1:])


def load_space(name: str | None, config_dir: Path | None = None) -> Space:
    """Read a shipped space, one of a folder of the user's own, or a file (a path that ends in ``.yaml``).

    Raises:
        RequestError: there is no such space, or its file is wrong (which key).
    """
    if name is None:
        known = ", ".join(folder.names(folder.SPACES, config_dir))
        raise RequestError(f"which --space? A file of your own (.yaml), or one of: {known}")
    path = Path(name) if name.endswith(".yaml") else folder.path_of(folder.SPACES, name, config_dir)
    return parse_space(plain_yaml.read(path), name)


def changed(space: Space, name: str, changes: Mapping[str, Any]) -> Space:
    """The space with some of its settings replaced (what the command line asks for), checked again."""
    return parse_space({**space.model_dump(mode="json"), **changes}, name)


def _with_numbers(value: Any) -> Any:
    """``1e-6`` is a number: YAML 1.1 wants a point in it and takes it for a text."""
    if isinstance(value, dict):
        return {key: _with_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_numbers(part) for part in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


_EXPONENT = re.compile(r"[+-]?\d+(?:\.\d*)?[eE][+-]?\d{1,3}")


def parse_space(content: Any, name: str) -> Space:
    """Check the content of a space's file; ``name`` is for the message."""
    if isinstance(content, dict) and isinstance(content.get("parameters"), dict):
        content = {**content, "parameters": _with_numbers(content["parameters"])}
    try:
        return Space.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            message = f"unknown key{nearest(key, Space.model_fields)}"
        if first["type"] == "literal_error":
            message = f"{message}, not {first['input']!r}"
        raise RequestError(f"space {name}: {f'{key}: ' if key else ''}{message}") from error
