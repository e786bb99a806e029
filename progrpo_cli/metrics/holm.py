"""Holm's correction for several comparisons (Scand. J. Statist. 6, 1979): no assumption about how they depend."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Adjusted p values: reject those at or below a level, and the chance of any false rejection is at most that level.

    The i-th smallest of m is multiplied by m - i + 1, and none is below one that was smaller before.
    """
    adjusted: dict[Key, float] = {}
    largest = 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[key]))
        adjusted[key] = largest
    return adjusted
