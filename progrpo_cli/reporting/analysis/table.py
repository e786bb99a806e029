"""The shape of every table of a report."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Table:
    """One table of a report: a frame, and what stands under it."""

    name: str
    """Its file name without ending."""
    title: str
    frame: pd.DataFrame
    metrics: tuple[str, ...]
    """Columns of the frame that have ``<metric>_low`` and ``<metric>_high`` beside them."""
    baseline: str | None
    """``<metric>_diff``, its ends and its p are differences to this row; None: there are none."""
    caption: tuple[str, ...]
    """What stands under it, a sentence each."""
    best: frozenset[tuple[int, str]] = frozenset()
    """(row number, metric) of the cells in bold."""
