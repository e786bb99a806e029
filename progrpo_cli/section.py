"""The base of every typed section of a configuration, and what a field can say of itself besides its type."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


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
