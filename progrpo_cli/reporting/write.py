"""A report from its sources to its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.records.files import write_text
from progrpo_cli.reporting import figures, frame, render, sources, tables, terminal_figure

FORMATS = ("term", "md", "tex", "csv")


@dataclass(frozen=True)
class ReportResult:
    """What a report says and where it is."""

    out: Path
    files: list[Path]
    main: tables.Table
    ablations: list[tables.Table]
    provenance: tables.Table
    terminal_figure: list[str]
    """Pass@k over k as lines of text."""
    notes: list[str]
    """What was left out and why, a line each."""


def build_report(
    read_from: Sequence[str],
    *,
    out: Path,
    formats: Sequence[str] = FORMATS,
    baseline: str | None = None,
    ks: Sequence[int] | None = None,
) -> ReportResult:
    """Read the runs, compare them, and write tables and figures into ``out``.

    Args:
        read_from: sources, see :func:`progrpo_cli.reporting.sources.read`; none: everything below ``runs/``.
        out: created if need be; its files are replaced one by one, each at once.
        formats: of the tables; figures are always drawn, and ``term`` is the caller's to print.
        baseline: a row's label, or the name of a method that has one row; None: ``grpo`` if it is there.
        ks: the k of Pass@k; None: those that the evaluations were scored with.

    Raises:
        RequestError: nothing to report, unknown format or baseline, k above n; nothing has been written then.
        WorkError: evaluations that cannot share a column.
    """
    for name in formats:
        if name not in FORMATS:
            raise RequestError(f"unknown format {name!r}{nearest(name, FORMATS)} (valid: {', '.join(FORMATS)})")
    found = sources.read(list(read_from))
    evaluated = frame.build(found)
    if not evaluated.rows:
        places = ", ".join(read_from) or sources.DEFAULT
        raise RequestError(
            f"no evaluated runs under {places}: {len(found.runs)} runs without scores; try `progrpo eval`"
        )
    chosen = tables.choose_baseline(evaluated.rows, baseline, found)
    ks = tables.choose_ks(evaluated.rows, ks)
    main = tables.main_table(evaluated, found, ks=ks, baseline=chosen)
    ablations = tables.ablation_tables(evaluated, main, found)
    provenance = tables.provenance_table(evaluated, found)
    files = _write_tables([main, *ablations, provenance], out, formats, found.notes)
    files += figures.draw(evaluated, main, ablations, out / "figures")
    _note_leftovers(out, files, found)
    curves = terminal_figure.pass_at_k(tables.preferred(evaluated.rows))
    return ReportResult(out, files, main, ablations, provenance, curves, found.notes)


def _write_tables(made: Sequence[tables.Table], out: Path, formats: Sequence[str], notes: list[str]) -> list[Path]:
    written = []
    for table in made:
        for ending in formats:
            if ending == "csv":
                text = render.csv_text(table)
            elif ending == "md":
                text = render.markdown(table, notes if table.name == "main" else [])
            elif ending == "tex":
                text = render.latex(table)
            else:
                continue
            path = out / f"{table.name}.{ending}"
            write_text(path, text)
            written.append(path)
    return written


def _note_leftovers(out: Path, files: Sequence[Path], found: sources.Found) -> None:
    """Files of an earlier report in the same place are not removed, but nobody must take them for this one's."""
    ours = [*out.glob("*.csv"), *out.glob("*.md"), *out.glob("*.tex"), *out.glob("figures/*.png")]
    for path in sorted(set(ours) - set(files)):
        found.note(f"{path} is of an earlier report, not of this one")
