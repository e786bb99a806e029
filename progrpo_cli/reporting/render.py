"""The tables as Markdown, CSV, LaTeX and for the terminal."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

import pandas as pd

from progrpo_cli.console import results
from progrpo_cli.reporting import escape
from progrpo_cli.reporting.frame import shown
from progrpo_cli.reporting.tables import Table

# Said once under the table where all rows agree: a paper's column is too narrow to repeat it.
_SAID_ONCE = ("task", "split", "problems", "n", "temperature", "held")


@dataclass(frozen=True)
class View:
    """A table as people read it: a metric and its interval in one cell, all cells text."""

    title: str
    header: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    """For each column whether it is aligned to the right."""


def views(table: Table) -> list[View]:
    """The values, and a second view with the differences to the baseline where there is one."""
    frame = table.frame
    measured = {
        f"{m}{part}" for m in table.metrics for part in ("", "_low", "_high", "_diff", "_diff_low", "_diff_high")
    }
    about = [str(c) for c in frame.columns if c not in measured and c != "baseline"]
    if table.metrics:
        about = [c for c in about if c not in _SAID_ONCE or frame[c].nunique(dropna=False) > 1]
    found = [_view(table.title, frame, about, list(table.metrics), "")]
    if table.baseline is not None and (frame["method"] != table.baseline).any():
        others = frame[frame["method"] != table.baseline]
        title = f"{table.title}: difference to {table.baseline}"
        found.append(_view(title, others, about, list(table.metrics), "_diff"))
    return found


def csv_text(table: Table) -> str:
    """Every column in full; numbers to six significant digits, empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([escape.csv(str(column)) for column in table.frame.columns])
    for row in table.frame.itertuples(index=False):
        writer.writerow([_csv_cell(value) for value in row])
    return out.getvalue()


def json_rows(table: Table) -> list[dict[str, object]]:
    """The rows with null where there is no number."""
    return [
        {str(name): None if _missing(value) else value for name, value in row.items()} for row in _records(table.frame)
    ]


def markdown(table: Table, notes: list[str]) -> str:
    """The views with what stands under the table, and what was left out of the report."""
    parts = []
    for view in views(table):
        rule = ["---:" if numeric else "---" for numeric in view.numeric]
        lines = [[escape.markdown(cell) for cell in view.header], rule]
        lines += [[escape.markdown(cell) for cell in row] for row in view.rows]
        parts.append(f"**{escape.markdown(view.title)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    said = [f"- {escape.markdown(sentence)}" for sentence in [*table.caption, *(f"Note: {note}" for note in notes)]]
    return "\n\n".join([*parts, "\n".join(said)]) + "\n"


def latex(table: Table) -> str:
    """One ``table`` environment for each view; needs the package booktabs."""
    parts = ["% \\usepackage{booktabs}"]
    for number, view in enumerate(views(table)):
        caption = " ".join([f"{view.title}.", *table.caption])
        label = f"tab:{table.name}{'-difference' if number else ''}"
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape.latex(caption)}}}",
            rf"\label{{{label.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{{''.join('r' if numeric else 'l' for numeric in view.numeric)}}}",
            r"\toprule",
            _latex_row(view.header),
            r"\midrule",
            *map(_latex_row, view.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_terminal(table: Table, notes: list[str]) -> None:
    """Print the views to stdout."""
    from rich.table import Table as RichTable
    from rich.text import Text

    console = results()
    for view in views(table):
        shown_table = RichTable(title=Text(escape.plain(view.title)), title_justify="left")
        for name, numeric in zip(view.header, view.numeric, strict=True):
            shown_table.add_column(Text(escape.plain(name)), justify="right" if numeric else "left")
        for row in view.rows:
            shown_table.add_row(*(Text(escape.plain(cell)) for cell in row))  # Text: "[red]" in a name is no markup
        console.print(shown_table)
    for sentence in [*table.caption, *(f"Note: {note}" for note in notes)]:
        console.print(Text(escape.plain(sentence)))


def _view(title: str, frame: pd.DataFrame, about: list[str], metrics: list[str], part: str) -> View:
    rows = [
        [
            *(_cell(row[name]) for name in about),
            *(_interval(row, f"{metric}{part}", signed=bool(part)) for metric in metrics),
        ]
        for row in _records(frame)
    ]
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in about] + [True] * len(metrics)
    return View(title, [*about, *metrics], rows, numeric)


def _interval(row: dict[str, object], name: str, *, signed: bool) -> str:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if _missing(value):
        return ""
    sign = "+" if signed else ""
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _records(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: object) -> str:
    if _missing(value):
        return ""
    return shown(value) if not isinstance(value, int) or isinstance(value, bool) else str(value)


def _csv_cell(value: object) -> str:
    if isinstance(value, float) and not _missing(value):
        return f"{value:.6g}"
    text = _cell(value)
    return escape.csv(text) if isinstance(value, str) else text


def _latex_row(cells: list[str]) -> str:
    return " & ".join(escape.latex(cell) for cell in cells) + r" \\"
