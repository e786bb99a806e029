"""A space: what a sweep varies, over which seeds, and what it looks at. One YAML file of ``sweeps/`` each."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from progrpo_cli.config import paths, plain_yaml
from progrpo_cli.errors import RequestError, nearest

Value = bool | int | float | str


class Objective(BaseModel):
    """A metric of the validation scores, and which way is better."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    direction: Literal["maximize", "minimize"] = "maximize"


class Space(BaseModel):
    """The content of ``sweeps/NAME.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    overrides: list[str] = []
    """What every run of the study has besides the default experiment, in Hydra's grammar."""
    parameters: Annotated[dict[str, list[Value]], Field(min_length=1)]
    """For each configuration key (or group, as ``method``) the values of the grid."""
    seeds: Annotated[list[int], Field(min_length=1)]
    objective: Objective
    k: list[int] = [1, 32]
    """The k of Pass@k on the validation split."""
    workers: Annotated[int, Field(ge=1)] = 2

    def grid(self) -> list[dict[str, Value]]:
        """Every combination of the parameters' values, the last parameter varying fastest."""
        return [dict(zip(self.parameters, values, strict=True)) for values in product(*self.parameters.values())]


def load_space(name: str | None) -> Space:
    """Read a shipped space.

    Raises:
        RequestError: there is no such space, or its file is wrong (which key).
    """
    known = paths.names(paths.SWEEPS)
    if name is None:
        raise RequestError(f"which --space? One of: {', '.join(known)}")
    if name not in known:
        raise RequestError(f"unknown space {name!r}{nearest(name, known)}")
    return parse_space(plain_yaml.read(paths.SWEEPS / f"{name}.yaml"), name)


def parse_space(content: Any, name: str) -> Space:
    """Check the content of a space's file; ``name`` is for the message."""
    try:
        return Space.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"space {name}: {key}: {first['msg']}") from error
