"""Tables as they are displayed: a metric and its interval in one cell, all cells as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from progrpo_cli.config.values import format_value
from progrpo_cli.metrics.tail import MIN_P
from progrpo_cli.reporting.analysis.budgets import COLUMNS as BUDGET
from progrpo_cli.reporting.analysis.compare import DIFFERENCE_PARTS, PARTS
from progrpo_cli.reporting.analysis.table import Table

# Columns that the caption mentions if all rows agree, because a paper's columns are too narrow to repeat them.
_CAPTION_COLUMNS = ("task", "split", "problems", "n", "temperature", "held")


@dataclass(frozen=True)
class Cell:
    """One cell."""

    text: str
    key: float | str
    """The value to sort by."""
    bold: bool = False


@dataclass(frozen=True)
class View:
    """One displayed table."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    numeric: list[bool]
    """Whether each column is right-aligned."""
    part: str = ""
    """Part of its table: ``difference``, ``budget``, or empty for the values."""

    @property
    def texts(self) -> list[list[str]]:
        """The texts of the cells."""
        return [[cell.text for cell in row] for row in self.rows]


def views(table: Table) -> list[View]:
    """The values, the differences to the baseline if there is one, and the training budgets if they were counted."""
    frame = table.frame
    measured = {f"{metric}{part}" for metric in table.metrics for part in (*PARTS, *DIFFERENCE_PARTS)}
    fields = [str(c) for c in frame.columns if c not in measured and c != "baseline"]
    if table.metrics:
        fields = [c for c in fields if c not in BUDGET]
        fields = [c for c in fields if c not in _CAPTION_COLUMNS or frame[c].nunique(dropna=False) > 1]
    records = to_records(frame)
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in fields] + [True] * len(table.metrics)
    header = [*fields, *table.metrics]
    rows = [
        [*(_field(r[name]) for name in fields), *(_value(r, m, bold=(i, m) in table.best) for m in table.metrics)]
        for i, r in enumerate(records)
    ]
    result = [View(table.title, header, rows, numeric)]
    others = [r for r in records if any(not is_missing(r[f"{m}_diff"]) for m in table.metrics if table.baseline)]
    if others:
        if any(r["baseline"] != table.baseline for r in others):  # the baseline has several rows, told by brackets
            fields = [*fields, "baseline"]
        rows = [[*(_field(r[name]) for name in fields), *(_difference(r, m) for m in table.metrics)] for r in others]
        numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in fields] + [True] * len(table.metrics)
        header = [*fields, *table.metrics]
        result.append(View(f"{table.title}: difference to {table.baseline}", header, rows, numeric, "difference"))
    if table.metrics and any(not is_missing(r.get("samples_drawn")) for r in records):
        result.append(_budget_view(table, records))
    return result


def _budget_view(table: Table, records: Sequence[dict[str, object]]) -> View:
    """One row per method, however many tasks it was evaluated on."""
    columns = [str(name) for name in table.frame.columns]
    before = [c for c in columns[: columns.index("task")] if c != "held" or table.frame[c].nunique(dropna=False) > 1]
    fields = [*before, "seeds"]
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for record in records:
        cells = [_field(record[name]) for name in fields]
        if any(not is_missing(record[name]) for name in BUDGET):  # models have no training budget
            cells += [_budget_cell(record[name]) for name in BUDGET]
            rows.setdefault(tuple(cell.text for cell in cells), cells)
    numeric = [pd.api.types.is_numeric_dtype(table.frame[name]) for name in fields] + [True] * len(BUDGET)
    title = f"{table.title}: training budget, mean per run"
    return View(title, [*fields, *BUDGET], list(rows.values()), numeric, "budget")


def _budget_cell(value: object) -> Cell:
    if is_missing(value):
        return Cell("unknown", "")
    return Cell(f"{float(str(value)):,.0f}", float(str(value)))


def to_records(frame: pd.DataFrame) -> list[dict[str, object]]:
    """The rows as dictionaries with text keys."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def is_missing(value: object) -> bool:
    """Whether the value is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def cell_text(value: object) -> str:
    """Format a value that is not a metric; empty if it is missing."""
    if is_missing(value):
        return ""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else format_value(value)


def _field(value: object) -> Cell:
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
