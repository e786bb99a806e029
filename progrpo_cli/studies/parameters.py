"""The types of parameters in a space, their values in a grid, and their Optuna distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str

MOST_VALUES = 1000
"""The most values that a parameter can have in a grid."""


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    when: dict[str, list[Value]] = {}
    """Condition: the parameter exists only if each of these earlier parameters has one of the listed values."""

    @model_validator(mode="before")
    @classmethod
    def _wrap_single_values(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("when"), dict):
            lists = {key: value if isinstance(value, list) else [value] for key, value in given["when"].items()}
            return {**given, "when": lists}
        return given

    def applies(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the values of earlier parameters meet the condition."""
        return all(key in chosen and chosen[key] in values for key, values in self.when.items())


class Grid(_Typed):
    """A list of values, also written as a bare list. Optuna treats numbers as numbers."""

    type: Literal["grid"] = "grid"
    values: Annotated[list[Value], Field(min_length=1, max_length=MOST_VALUES)]


class Categorical(_Typed):
    """Choices without an order."""

    type: Literal["categorical"]
    choices: Annotated[list[Value], Field(min_length=1, max_length=MOST_VALUES)]


class Integer(_Typed):
    """Integers from low to high, both included, in steps."""

    type: Literal["int"]
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _is_a_range(self) -> Integer:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self


class Float(_Typed):
    """A number from low to high, on a linear (``float``) or logarithmic (``log-float``) scale."""

    type: Literal["float", "log-float"]
    low: float
    high: float
    points: Annotated[int, Field(ge=2, le=MOST_VALUES)] | None = None
    """How many values a grid has, evenly spaced on the scale, both ends included."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Float:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.type == "log-float" and self.low <= 0:
            raise ValueError(f"low {self.low} must be above 0 on a logarithmic scale")
        return self


TYPES = ("grid", "categorical", "int", "float", "log-float")


def _kind(given: Any) -> str:
    kind = given.get("type", "grid") if isinstance(given, dict) else getattr(given, "type", "grid")
    return "float" if kind == "log-float" else str(kind)


def _from_list(given: Any) -> Any:
    return {"type": "grid", "values": given} if isinstance(given, list) else given


Parameter = Annotated[
    Annotated[Grid, Tag("grid")]
    | Annotated[Categorical, Tag("categorical")]
    | Annotated[Integer, Tag("int")]
    | Annotated[Float, Tag("float")],
    Discriminator(_kind, custom_error_type="parameter", custom_error_message=f"type is one of {', '.join(TYPES)}"),
    BeforeValidator(_from_list),
]


def grid_values(key: str, parameter: Grid | Categorical | Integer | Float) -> Sequence[Value]:
    """Return the values of a parameter in a grid.

    Raises:
        ValueError: the parameter is a range of floats without ``points``.
    """
    if isinstance(parameter, Grid):
        return parameter.values
    if isinstance(parameter, Categorical):
        return parameter.choices
    if isinstance(parameter, Integer):
        return range(parameter.low, parameter.high + 1, parameter.step)
    if parameter.points is None:
        raise ValueError(f"parameters.{key}: a grid needs points; set their number, or use sampler tpe")
    low, high = parameter.low, parameter.high
    shares = [index / (parameter.points - 1) for index in range(parameter.points)]
    if parameter.type == "log-float":
        inner = [low * (high / low) ** share for share in shares[1:-1]]
    else:
        inner = [low + (high - low) * share for share in shares[1:-1]]
    return [low, *(float(f"{value:.6g}") for value in inner), high]


def boundary_values(parameter: Grid | Categorical | Integer | Float) -> Sequence[Value]:
    """Return the values to validate a configuration with: every choice, or both ends of a range."""
    if isinstance(parameter, Integer | Float):
        return [parameter.low, parameter.high]
    return grid_values("", parameter)


def suggest(trial: Trial, key: str, parameter: Grid | Categorical | Integer | Float) -> Value:
    """Let the sampler choose a value of the parameter's type."""
    if isinstance(parameter, Integer):
        return trial.suggest_int(key, parameter.low, parameter.high, step=parameter.step)
    if isinstance(parameter, Float):
        return trial.suggest_float(key, parameter.low, parameter.high, log=parameter.type == "log-float")
    choices = list(dict.fromkeys(grid_values(key, parameter)))
    return choices[choices.index(trial.suggest_categorical(key, choices))]  # type: ignore[arg-type]


def grid_distribution(parameter: Grid | Categorical | Integer | Float) -> BaseDistribution:
    """Return Optuna's distribution for the values of a grid: a range if all are numbers, else categories."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = grid_values("", parameter)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if isinstance(parameter, Categorical) or len(numbers) < len(values):
        return CategoricalDistribution(list(dict.fromkeys(values)))
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(int(min(numbers)), int(max(numbers)))
    return FloatDistribution(float(min(numbers)), float(max(numbers)))
