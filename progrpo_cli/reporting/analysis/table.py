"""The type of all tables of a report."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Table:
    """A table of a report with its caption."""

    name: str
    """File name without extension."""
    title: str
    frame: pd.DataFrame
    metrics: tuple[str, ...]
    """Columns of the frame that have companions ``<metric>_low`` and ``<metric>_high``."""
    baseline: str | None
    """Label of the row that ``<metric>_diff`` is a difference to; None if there are no differences."""
    caption: tuple[str, ...]
    """The sentences below the table."""
    best: frozenset[tuple[int, str]] = frozenset()
    """(row number, metric) of the cells in bold."""
