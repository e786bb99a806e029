"""The space of a sweep: the parameters it varies, the seeds and the objectives; a YAML file in ``sweeps/``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from progrpo_cli.config import folder, plain_yaml
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.section import LARGEST_K, MOST_K
from progrpo_cli.studies.parameters import Parameter, Value, grid_values

MOST_TRIALS = 10_000
"""Every trial is composed and validated before the first run, which takes half a minute for 10,000 trials."""
MOST_SEEDS, MOST_WORKERS, MOST_PARAMETERS = 1000, 1024, 64
"""A plan lists trials x seeds, so these limits bound its size."""
SAMPLERS = ("grid", "tpe", "nsga2", "random")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Objective(_Part):
    """A metric of the validation scores, and the direction of improvement."""

    metric: str
    direction: Literal["maximize", "minimize"] = "maximize"


class Sampler(_Part):
    """How the parameters of the next trial are chosen; ``sampler: tpe`` is short for ``sampler: {name: tpe}``."""

    name: Literal["grid", "tpe", "nsga2", "random"] = "grid"
    """All combinations in order, the tree-structured Parzen estimator, NSGA-II (several objectives), or at random."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of a draw is made of it and the trial's number, so a restart does not repeat earlier draws."""
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """For tpe: how many trials are drawn at random first."""
    population: Annotated[int, Field(ge=2)] = 16
    """For nsga2: trials in a generation."""


class Pruner(_Part):
    """When to prune a trial, by Pass@k on the validation split every ``train.eval_every`` updates."""

    name: Literal["none", "median", "halving"] = "none"
    """median: prune if worse than the median of other trials at the same point; halving: asynchronous successive
    halving."""
    metric: str | None = None
    """``pass@1`` or ``pass@<group size>``, the metrics measured during training; None: the larger k."""
    startup_trials: Annotated[int, Field(ge=1)] = 4
    """For median: how many trials have to finish before any is pruned."""
    min_seeds: Annotated[int, Field(ge=1)] = 2
    """How many of its first seeds a trial's mean needs at least (fewer if the study has fewer)."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """For halving: one in this many trials continues at each rung."""


class Budget(_Part):
    """The size of a study."""

    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    """The number of trials; None (grid only): all combinations."""


def _from_name(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


class Space(_Part):
    """The content of ``sweeps/NAME.yaml``."""

    experiment: str = "lab"
    """The base experiment, from ``experiments/experiment/``."""
    overrides: list[str] = []
    """Overrides of the experiment in every run, in Hydra's grammar."""
    parameters: Annotated[dict[str, Parameter], Field(min_length=1, max_length=MOST_PARAMETERS)]
    """Configuration key (or group, such as ``method``) -> its values."""
    seeds: Annotated[list[int], Field(min_length=1, max_length=MOST_SEEDS)]
    """Every trial is run once with each seed."""
    objectives: Annotated[list[Objective], Field(min_length=1, max_length=16)]
    k: Annotated[list[Annotated[int, Field(ge=1, le=LARGEST_K)]], Field(min_length=1, max_length=MOST_K)] = [1, 32]
    """The k of Pass@k on the validation split."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The temperature of these evaluations; None: ``train.temperature``, which must not vary then."""
    samples_per_run: Annotated[int, Field(ge=1)] | None = None
    """Completions that every run samples for training, rounded to whole rollouts. `train.steps` is computed from it and
    the trial's `train.prompts_per_rollout`, `train.group_size` and `train.updates_per_rollout`. None: `train.steps` of
    the configuration."""
    budget: Budget = Budget()
    sampler: Annotated[Sampler, BeforeValidator(_from_name)] = Sampler()
    pruner: Annotated[Pruner, BeforeValidator(_from_name)] = Pruner()
    retries: Annotated[int, Field(ge=0)] = 3
    """How often a failed run is tried again, over all starts of the command."""
    minutes_per_run: Annotated[float, Field(gt=0)] | None = None
    """Time limit of a run (training and evaluation), after which it fails; None: no limit."""
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 2
    slurm: dict[str, str | int] = {}
    """sbatch's options of a worker's job with ``--launcher slurm``, by submitit's names, e.g. ``partition``, ``time``
    (minutes), ``cpus_per_task``, ``gres``."""

    @field_validator("slurm")
    @classmethod
    def _are_single_lines(cls, options: dict[str, str | int]) -> dict[str, str | int]:
        # The options become lines of a batch script, where a second line would be a command.
        for key, value in options.items():
            if not all(part.isprintable() for part in (key, str(value))):
                raise ValueError(f"{key[:40]!r}: a value of one line is needed")
        return options

    @model_validator(mode="after")
    def _is_consistent(self) -> Space:
        if self.sampler.name != "grid" and self.budget.trials is None:
            raise ValueError(f"sampler {self.sampler.name} needs budget.trials (or --trials)")
        if self.sampler.name == "grid":
            size = 1
            for key, parameter in self.parameters.items():
                size *= len(grid_values(key, parameter))
                if size > MOST_TRIALS:
                    raise ValueError(f"the grid has more than {MOST_TRIALS:,} trials; use a sampler with a budget")
        if self.sampler.name == "nsga2" and len(self.objectives) < 2:
            raise ValueError("sampler nsga2 is for several objectives; with one, use tpe")
        if len({objective.metric for objective in self.objectives}) < len(self.objectives):
            raise ValueError("an objective is listed twice")
        if self.pruner.name != "none" and len(self.objectives) > 1:
            raise ValueError(f"pruner {self.pruner.name}: Optuna cannot prune with several objectives; use pruner none")
        if self.pruner.name != "none" and self.objectives[0].direction == "minimize":
            raise ValueError(f"pruner {self.pruner.name}: interim Pass@k does not predict an objective to minimize")
        earlier: list[str] = []
        for key, parameter in self.parameters.items():
            for other in parameter.when:
                if other not in earlier:
                    raise ValueError(f"parameters.{key}.when: {other} is not an earlier parameter")
            earlier.append(key)
        return self

    def grid(self) -> list[dict[str, Value]]:
        """Return every combination of the parameters' values; the last parameter varies fastest.

        A parameter whose condition is not met is left out. Combinations that are equal then are listed once.
        """
        combinations = self._combinations({}, list(self.parameters))
        unique = {tuple(combination.items()): combination for combination in combinations}
        return list(unique.values())[: self.budget.trials]

    def _combinations(self, chosen: dict[str, Value], keys: list[str]) -> Iterator[dict[str, Value]]:
        if not keys:
            yield chosen
        elif not self.parameters[keys[0]].applies(chosen):
            yield from self._combinations(chosen, keys[1:])
        else:
            for value in grid_values(keys[0], self.parameters[keys[0]]):
                yield from self._combinations({**chosen, keys[0]: value}, keys[1:])


def load_space(name: str | None, config_dir: Path | None = None) -> Space:
    """Read a space: a shipped one, one in ``config_dir``, or a file (a path that ends in ``.yaml``).

    Raises:
        RequestError: there is no such space, or its file is invalid; the message names the key.
    """
    if name is None:
        known = ", ".join(folder.names(folder.SPACES, config_dir))
        raise RequestError(f"which --space? Name your own file (.yaml) or one of: {known}")
    path = Path(name) if name.endswith(".yaml") else folder.path_of(folder.SPACES, name, config_dir)
    return parse_space(plain_yaml.read(path), name)


def own_file(name: str | None) -> Path | None:
    """Return the file if ``--space`` names one, else None."""
    return Path(name) if name is not None and name.endswith(".yaml") else None


def replace_settings(space: Space, name: str, changes: Mapping[str, Any]) -> Space:
    """Return the space with some settings replaced by those of the command line, after validating it again."""
    return parse_space({**space.model_dump(mode="json"), **changes}, name)


def _with_numbers(value: Any) -> Any:
    """Convert text such as ``1e-6`` to a number: YAML 1.1 reads it as text, since it has no decimal point."""
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


_EXPONENT = re.compile(r"[+-]?\d+(?:\.\d*)?[eE][+-]?\d{1,3}")


def parse_space(content: Any, name: str) -> Space:
    """Validate the content of a space's file.

    Raises:
        RequestError: it is invalid; the message has ``name`` and the key.
    """
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
