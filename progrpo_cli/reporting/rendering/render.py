"""Render tables as Markdown, CSV, LaTeX and for the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import lru_cache

from progrpo_cli import escape
from progrpo_cli.console import results
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.analysis.views import Cell, cell_text, is_missing, to_records, views


def csv_text(table: Table) -> str:
    """All columns; numbers have six significant digits, missing values are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([escape.csv(str(column)) for column in table.frame.columns])
    for row in table.frame.itertuples(index=False):
        writer.writerow([_csv_cell(value) for value in row])
    return out.getvalue()


def json_rows(table: Table) -> list[dict[str, object]]:
    """The rows with None for missing values."""
    return [
        {name: None if is_missing(value) else value for name, value in row.items()} for row in to_records(table.frame)
    ]


def markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """The views of the tables with their captions, followed by the report's notes."""
    parts = []
    for table in tables:
        for view in views(table):
            lines = [[escape.markdown(name) for name in view.header]]
            lines.append(["---:" if numeric else "---" for numeric in view.numeric])
            lines += [[_markdown_cell(cell) for cell in row] for row in view.rows]
            rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"**{escape.markdown(view.title)}**\n\n{rows}")
        parts.append(_list(table.caption))
    if notes:
        parts.append(f"**Notes**\n\n{_list(notes)}")
    return "\n\n".join(parts) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """Tables for the package booktabs, to be included with \\input."""
    parts = ["% in the preamble: \\usepackage{booktabs}"]
    for table in tables:
        for view in views(table):
            caption = f"{view.title}. {' '.join(table.caption)}"
            label = f"tab:{table.name}{f'-{view.part}' if view.part else ''}".replace("_", "-")
            parts.append(
                "\n".join(
                    [
                        r"\begin{table}",
                        r"\centering",
                        rf"\caption{{{escape.latex(caption)}}}",
                        rf"\label{{{label}}}",
                        rf"\begin{{tabular}}{{{''.join('r' if numeric else 'l' for numeric in view.numeric)}}}",
                        r"\toprule",
                        _latex_row([escape.latex(name) for name in view.header]),
                        r"\midrule",
                        *(_latex_row([_latex_cell(cell) for cell in row]) for row in view.rows),
                        r"\bottomrule",
                        r"\end{tabular}",
                        r"\end{table}",
                    ]
                )
            )
    return "\n\n".join(parts) + "\n"


def to_terminal(table: Table, notes: Sequence[str]) -> None:
    """Print the views to stdout."""
    from rich.table import Table as RichTable
    from rich.text import Text

    console = results()
    for view in views(table):
        rich_table = RichTable(title=Text(escape.plain(view.title)), title_justify="left")
        for name, numeric in zip(view.header, view.numeric, strict=True):
            rich_table.add_column(Text(escape.plain(name)), justify="right" if numeric else "left")
        for row in view.rows:  # Text keeps "[red]" in a name from being read as markup
            rich_table.add_row(*(Text(escape.plain(cell.text), style="bold" if cell.bold else "") for cell in row))
        console.print(rich_table)
    for sentence in [*table.caption, *(f"Note: {note}" for note in notes)]:
        console.print(Text(escape.plain(sentence)))


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {escape.markdown(sentence)}" for sentence in sentences)


def _markdown_cell(cell: Cell) -> str:
    text = escape.markdown(cell.text)
    return f"**{text}**" if cell.bold else text


def _csv_cell(value: object) -> str:
    if isinstance(value, str):
        return _csv_text(value)
    return f"{value:.6g}" if isinstance(value, float) and not is_missing(value) else cell_text(value)


@lru_cache(maxsize=4096)  # long columns repeat few names
def _csv_text(text: str) -> str:
    return escape.csv(text)


def _latex_cell(cell: Cell) -> str:
    text = escape.latex(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
