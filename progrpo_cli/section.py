"""The base class of every section of a configuration, common field types, and marks on fields."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
LARGEST = 2**53
"""Upper limit of integers: a float and JavaScript still represent it exactly."""
MOST_K = 64
"""How many k of Pass@k an evaluation may have: each is a row of every table and a column of every file."""
LARGEST_K, LARGEST_N = 1_000_000, 2_000_000
"""Limits of k and of the samples n of Pass@k; the cost grows with n."""
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Natural = Annotated[int, Field(ge=0, le=LARGEST)]


class Mark(Enum):
    """A property of a field, part of its annotation: ``seed: Annotated[int, Mark.UNHASHED]``."""

    UNHASHED = "not part of `config_hash`: it cannot change a result, or is a label, or runs are pooled over it"
    UNMEASURED = "a task's field that does not change validation scores, so trials that differ in it can be compared"
    DECIDES_VERDICTS = "a task's field that decides verdicts besides the problems, so it has to agree in a comparison"


class Section(BaseModel):
    """Frozen after composition. Unknown keys are refused, and nothing is converted: ``"3"`` is not an integer."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    @classmethod
    def marked(cls, mark: Mark) -> list[str]:
        """Return the names of the fields that have the mark."""
        return [name for name, field in cls.model_fields.items() if mark in field.metadata]
