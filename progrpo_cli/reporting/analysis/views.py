"""Tables as people read them: a metric and its interval in one cell, all cells text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from progrpo_cli.config.values import shown
from progrpo_cli.metrics.tail import MIN_P
from progrpo_cli.reporting.analysis.budgets import COLUMNS as BUDGET
from progrpo_cli.reporting.analysis.compare import DIFFERENCE_PARTS, PARTS
from progrpo_cli.reporting.analysis.table import Table

# Said once under the table where all rows agree: a paper's column is too narrow to repeat it.
_SAID_ONCE = ("task", "split", "problems", "n", "temperature", "held")


@dataclass(frozen=True)
class Cell:
    """One cell."""

    text: str
    key: float | str
    """What the cell is sorted by."""
    bold: bool = False


@dataclass(frozen=True)
class View:
    """A table to read."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    numeric: list[bool]
    """For each column whether it is aligned to the right."""
    part: str = ""
    """Of its table: ``difference``, ``budget``, or the values."""

    @property
    def texts(self) -> list[list[str]]:
        """The cells' texts."""
        return [[cell.text for cell in row] for row in self.rows]


def views(table: Table) -> list[View]:
    """The values; the differences to the baseline where there is one; what training took where it was counted."""
    frame = table.frame
    measured = {f"{metric}{part}" for metric in table.metrics for part in (*PARTS, *DIFFERENCE_PARTS)}
    about = [str(c) for c in frame.columns if c not in measured and c != "baseline"]
    if table.metrics:
        about = [c for c in about if c not in BUDGET]
        about = [c for c in about if c not in _SAID_ONCE or frame[c].nunique(dropna=False) > 1]
    records = list(enumerate(to_records(frame)))
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in about] + [True] * len(table.metrics)
    header = [*about, *table.metrics]
    rows = [
        [*(_about(r[name]) for name in about), *(_value(r, m, bold=(i, m) in table.best) for m in table.metrics)]
        for i, r in records
    ]
    found = [View(table.title, header, rows, numeric)]
    others = [r for _, r in records if any(not is_missing(r[f"{m}_diff"]) for m in table.metrics if table.baseline)]
    if others:
        if any(r["baseline"] != table.baseline for r in others):  # a row of it with a footnote: said exactly
            about = [*about, "baseline"]
        rows = [[*(_about(r[name]) for name in about), *(_difference(r, m) for m in table.metrics)] for r in others]
        numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in about] + [True] * len(table.metrics)
        header = [*about, *table.metrics]
        found.append(View(f"{table.title}: difference to {table.baseline}", header, rows, numeric, "difference"))
    if table.metrics and any(not is_missing(r.get("samples_drawn")) for _, r in records):
        found.append(_budget_view(table, [r for _, r in records]))
    return found


def _budget_view(table: Table, records: Sequence[dict[str, object]]) -> View:
    """A row a method, however many tasks it was measured on."""
    columns = [str(name) for name in table.frame.columns]
    before = [c for c in columns[: columns.index("task")] if c != "held" or table.frame[c].nunique(dropna=False) > 1]
    about = [*before, "seeds"]
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for record in records:
        cells = [_about(record[name]) for name in about]
        if any(not is_missing(record[name]) for name in BUDGET):  # a model was not trained here
            cells += [_budget_cell(record[name]) for name in BUDGET]
            rows.setdefault(tuple(cell.text for cell in cells), cells)
    numeric = [pd.api.types.is_numeric_dtype(table.frame[name]) for name in about] + [True] * len(BUDGET)
    title = f"{table.title}: what training took, a mean a run"
    return View(title, [*about, *BUDGET], list(rows.values()), numeric, "budget")


def _budget_cell(value: object) -> Cell:
    if is_missing(value):
        return Cell("unknown", "")
    return Cell(f"{float(str(value)):,.0f}", float(str(value)))


def to_records(frame: pd.DataFrame) -> list[dict[str, object]]:
    """The rows with their column names as text."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def is_missing(value: object) -> bool:
    """Whether there is no value."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def cell_text(value: object) -> str:
    """A value that is no metric; empty where there is none."""
    if is_missing(value):
        return ""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else shown(value)


def _about(value: object) -> Cell:
    text = cell_text(value)
    return Cell(text, float(value) if isinstance(value, int | float) and not is_missing(value) else text)


def _value(row: dict[str, object], metric: str, *, bold: bool) -> Cell:
    value, low, high = (row[f"{metric}{part}"] for part in PARTS)
    if not isinstance(value, float) or is_missing(value):
        return Cell("", "")
    return Cell(f"{value:.3f} [{low:.3f}, {high:.3f}]", value, bold)


def _difference(row: dict[str, object], metric: str) -> Cell:
    value, low, high, p, p_holm = (row[f"{metric}{part}"] for part in DIFFERENCE_PARTS)
    if not isinstance(value, float) or is_missing(value):
        return Cell("", "")
    at_most = "<= " if isinstance(p, float) and p <= MIN_P else ""
    tested = "" if is_missing(p_holm) else f" p {at_most}{p_holm:.2g}"
    return Cell(f"{value:+.3f} [{low:+.3f}, {high:+.3f}]{tested}", value)
