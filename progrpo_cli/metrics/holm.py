"""Holm's correction for multiple comparisons (Scand. J. Statist. 6, 1979), valid under any dependence between them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Adjusted p values. Rejecting those at or below a level keeps the family-wise error rate at most at that level.

    The i-th smallest of m values is multiplied by m - i + 1, and the adjusted values keep the order of the originals.
    """
    adjusted: dict[Key, float] = {}
    largest = 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[key]))
        adjusted[key] = largest
    return adjusted
