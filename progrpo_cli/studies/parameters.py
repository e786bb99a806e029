"""What a parameter of a space may be: the five types, each with its values for a grid and its Optuna distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str

MOST_VALUES = 1000
"""Of one parameter in a grid."""


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    when: dict[str, list[Value]] = {}
    """The parameter is there only where each of these parameters, which stand before it, has one of its values."""

    @model_validator(mode="before")
    @classmethod
    def _one_value_is_a_list_of_one(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("when"), dict):
            listed = {key: value if isinstance(value, list) else [value] for key, value in given["when"].items()}
            return {**given, "when": listed}
        return given

    def applies(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the condition is met by the parameters that were chosen before."""
        return all(key in chosen and chosen[key] in values for key, values in self.when.items())


class Grid(_Typed):
    """Values to go through; a bare list is short for it. Numbers stay numbers for Optuna."""

    type: Literal["grid"] = "grid"
    values: Annotated[list[Value], Field(min_length=1, max_length=MOST_VALUES)]


class Categorical(_Typed):
    """Choices without an order."""

    type: Literal["categorical"]
    choices: Annotated[list[Value], Field(min_length=1, max_length=MOST_VALUES)]


class Integer(_Typed):
    """Whole numbers from low to high, both included, in steps."""

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
    """For a grid: so many values, evenly spaced on the scale, both ends included."""

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


def grid_of(key: str, parameter: Grid | Categorical | Integer | Float) -> Sequence[Value]:
    """The values that a grid goes through.

    Raises:
        ValueError: a range of floats that does not say how many points.
    """
    if isinstance(parameter, Grid):
        return parameter.values
    if isinstance(parameter, Categorical):
        return parameter.choices
    if isinstance(parameter, Integer):
        return range(parameter.low, parameter.high + 1, parameter.step)
    if parameter.points is None:
        raise ValueError(f"parameters.{key}: a grid needs points; say how many, or take sampler tpe")
    low, high = parameter.low, parameter.high
    shares = [index / (parameter.points - 1) for index in range(parameter.points)]
    if parameter.type == "log-float":
        inner = [low * (high / low) ** share for share in shares[1:-1]]
    else:
        inner = [low + (high - low) * share for share in shares[1:-1]]
    return [low, *(float(f"{value:.6g}") for value in inner), high]


def ends_of(parameter: Grid | Categorical | Integer | Float) -> Sequence[Value]:
    """Values that show whether the configuration takes all of them: each choice, or both ends of a range."""
    if isinstance(parameter, Integer | Float):
        return [parameter.low, parameter.high]
    return grid_of("", parameter)


def suggest(trial: Trial, key: str, parameter: Grid | Categorical | Integer | Float) -> Value:
    """Let the sampler choose: numbers as numbers, whole numbers as whole, choices as choices."""
    if isinstance(parameter, Integer):
        return trial.suggest_int(key, parameter.low, parameter.high, step=parameter.step)
    if isinstance(parameter, Float):
        return trial.suggest_float(key, parameter.low, parameter.high, log=parameter.type == "log-float")
    choices = list(dict.fromkeys(grid_of(key, parameter)))
    return choices[choices.index(trial.suggest_categorical(key, choices))]  # type: ignore[arg-type]


def grid_distribution(parameter: Grid | Categorical | Integer | Float) -> BaseDistribution:
    """How Optuna sees a value that a grid has chosen: numbers are a range to it, not labels."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = grid_of("", parameter)
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if isinstance(parameter, Categorical) or len(numbers) < len(values):
        return CategoricalDistribution(list(dict.fromkeys(values)))
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(int(min(numbers)), int(max(numbers)))
    return FloatDistribution(float(min(numbers)), float(max(numbers)))
