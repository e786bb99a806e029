"""The base of every typed section of a configuration, and what a field can say of itself besides its type."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
LARGEST = 2**53
"""Of whole numbers: what a float and JavaScript still hold exactly, and far more than anything here can do."""
MOST_K = 64
"""Each is a row of every table and a column of every file."""
LARGEST_K, LARGEST_N = 1_000_000, 2_000_000
"""Pass@k of a million is beyond what anybody has drawn; costs grow with n."""
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Natural = Annotated[int, Field(ge=0, le=LARGEST)]


class Mark(Enum):
    """What a field of a section says of itself, beside its type: ``seed: Annotated[int, Mark.UNHASHED]``."""

    UNHASHED = "it cannot change a number, or runs are pooled over it, or it is a label: it is not in `config_hash`"
    UNMEASURED = "of a task: it leaves validation scores what they are, so trials that differ in it can be compared"
    DECIDES_VERDICTS = "of a task: it decides verdicts besides the problems, so another value is another measurement"


class Section(BaseModel):
    """Unknown keys are refused, nothing is converted (``"3"`` is no integer), nothing changes after composition."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    @classmethod
    def marked(cls, mark: Mark) -> list[str]:
        """The names of the fields that have the mark."""
        return [name for name, field in cls.model_fields.items() if mark in field.metadata]
