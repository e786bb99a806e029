"""Build a report: from its sources to its files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from progrpo_cli import heavy
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.records.files import write_text
from progrpo_cli.reporting.analysis import dataset
from progrpo_cli.reporting.analysis.ablations import ablation_tables
from progrpo_cli.reporting.analysis.figure_data import one_seed_note, select_rows
from progrpo_cli.reporting.analysis.frontier import compare_with_temperatures, frontier_table
from progrpo_cli.reporting.analysis.main_table import choose_baseline, choose_ks, main_table
from progrpo_cli.reporting.analysis.power import power_table
from progrpo_cli.reporting.analysis.provenance import commands, provenance_table
from progrpo_cli.reporting.analysis.published import published_table
from progrpo_cli.reporting.analysis.summary import caveats, findings
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.analysis.training_table import training_table
from progrpo_cli.reporting.reading import sources
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.reading.parallel import open_helper
from progrpo_cli.reporting.rendering import figures, render, terminal_figure
from progrpo_cli.reporting.rendering.page import Content, render_page

FORMATS = ("term", "md", "tex", "csv", "html")

PAGE = "index.html"


@dataclass(frozen=True)
class ReportResult:
    """The contents and files of a report."""

    out: Path
    files: list[Path]
    main: Table
    frontier: list[Table]
    """Trained methods against their base's temperatures: one table, or none if the base has one temperature."""
    findings: list[str]
    """The results in words."""
    ablations: list[Table]
    power: Table | None
    """How many seeds and problems would detect a difference, if requested."""
    provenance: Table
    published: Table
    training: list[Table]
    """Pass@k on the training problems: one table if requested, else none."""
    terminal_figure: list[str]
    """Pass@k over k as lines of text."""
    notes: list[str]
    """What was left out and why."""


def build_report(
    read_from: Sequence[str],
    *,
    out: Path,
    formats: Sequence[str] = FORMATS,
    baseline: str | None = None,
    ks: Sequence[int] | None = None,
    mixed: bool = False,
    offline: bool = False,
    training: bool = False,
    power: float | None = None,
) -> ReportResult:
    """Read runs, compare them, and write tables and figures into ``out``.

    Args:
        read_from: sources, see :func:`progrpo_cli.reporting.reading.sources.read`; empty: everything below ``runs/``.
        out: created if necessary. Each of its files is replaced atomically.
        formats: formats of the tables. Figures are always written; ``term`` is left to the caller.
        baseline: label of a row, or name of a method with one row; None: ``grpo`` if there is one.
        ks: the k of Pass@k; None: those of the evaluations.
        mixed: show evaluations of one task and split that were measured differently, with footnotes.
        offline: contact no W&B server; use runs fetched earlier.
        training: add a table of Pass@k on the training problems.
        power: add a table of the seeds and problems that would detect this difference to the baseline.

    Raises:
        RequestError: there is nothing to report, a format or the baseline is unknown, or a k is above n. Nothing has
            been written then.
        WorkError: evaluations cannot be compared, or a W&B server does not answer.
    """
    for name in formats:
        if name not in FORMATS:
            raise RequestError(f"unknown format {name!r}{nearest(name, FORMATS)} (valid: {', '.join(FORMATS)})")
    with heavy.rare_collections(), open_helper() as helper:
        loaded = sources.read(list(read_from), offline=offline, helper=helper)
        helper.start(len(loaded.runs))
        helper.prepare(*figures.MODULES)
        data = dataset.build_dataset(loaded, mixed=mixed)
        if not data.rows:
            places = ", ".join(read_from) or sources.DEFAULT
            raise RequestError(
                f"no evaluated runs under {places}: {len(loaded.runs)} runs without scores; try `progrpo eval`"
            )
        baseline_label = choose_baseline(data.rows, baseline, loaded)
        requested_ks, ks = ks, choose_ks(data.rows, ks, loaded)
        passes = [f"pass@{k}" for k in ks]
        groups, note = select_rows(data, baseline_label, passes)
        note += one_seed_note(groups)
        comparisons = compare_with_temperatures(data.rows, passes)
        finish_figures = helper.begin(figures.plan_figures(groups, note, passes, out / "figures", comparisons))
        main = main_table(data, loaded, ks=ks, baseline=baseline_label)
        ablations = ablation_tables(data, main, loaded)
        finish_ablations = helper.begin(figures.plan_ablation_figures(ablations, main, out / "figures"))
        provenance = provenance_table(data, loaded)
        published = published_table()
        frontier_tables = [frontier_table(comparisons)] if comparisons else []
        training_tables = [training_table(data, main)] if training else []
        power_tables = [] if power is None else [power_table(data.rows, main.metrics, baseline_label, power)]
        tidy = Table("frame", "Every number", dataset.tidy_frame(data, loaded, main.metrics), (), None, ())
        tables = [main, *frontier_tables, *ablations, *training_tables, *power_tables]
        files = _write_tables([*tables, provenance, published], out, formats, loaded.notes)
        if "csv" in formats:
            files.append(_write(out / "frame.csv", render.csv_text(tidy)))
        drawn = [*finish_figures(), *finish_ablations()]
    files += [file for figure in drawn for file in figure.files]
    _note_leftovers(out, [*files, out / PAGE], loaded)
    sentences = findings(data, main, comparisons)
    if "html" in formats:
        command = report_command(
            read_from, out=out, baseline=baseline, ks=requested_ks, mixed=mixed, training=training, power=power
        )
        content = Content(
            findings=sentences,
            caveats=caveats(data, main, loaded.notes),
            tables=[*tables, published],
            figures=drawn,
            provenance=provenance,
            commands={**commands(data), command: "Made this report:"},
            notes=loaded.notes,
        )
        files.append(_write(out / PAGE, render_page(content)))
    return ReportResult(
        out=out,
        files=files,
        main=main,
        frontier=frontier_tables,
        findings=sentences,
        ablations=ablations,
        power=next(iter(power_tables), None),
        provenance=provenance,
        published=published,
        training=training_tables,
        terminal_figure=terminal_figure.pass_at_k(groups),
        notes=loaded.notes,
    )


def report_command(
    read_from: Sequence[str],
    *,
    out: Path,
    baseline: str | None,
    ks: Sequence[int] | None,
    mixed: bool,
    training: bool = False,
    power: float | None = None,
) -> str:
    """The command line that builds this report again."""
    options = [
        *(["--baseline", baseline] if baseline else []),
        *(["--k", ",".join(map(str, ks))] if ks else []),
        *(["--mixed"] if mixed else []),
        *(["--training"] if training else []),
        *(["--power", "--difference", f"{power:g}"] if power is not None else []),
    ]
    return shlex.join(["progrpo", "report", *read_from, *options, "--out", str(out)])


def _write_tables(tables: Sequence[Table], out: Path, formats: Sequence[str], notes: Sequence[str]) -> list[Path]:
    """Write all tables. The published one goes below the main table, but into a CSV of its own."""
    published = [table for table in tables if table.name == "published"]
    written = []
    for table in tables:
        group = [table, *published] if table.name == "main" else [table]
        if "csv" in formats:
            written.append(_write(out / f"{table.name}.csv", render.csv_text(table)))
        if table in published:
            continue
        if "md" in formats:
            text = render.markdown(group, notes if table.name == "main" else [])
            written.append(_write(out / f"{table.name}.md", text))
        if "tex" in formats:
            written.append(_write(out / f"{table.name}.tex", render.latex(group)))
    return written


def _write(path: Path, text: str) -> Path:
    write_text(path, text)
    return path


def _note_leftovers(out: Path, files: Sequence[Path], loaded: LoadedRuns) -> None:
    """Note files of an earlier report in the same directory. They are not removed."""
    present = [path for pattern in ("*.csv", "*.md", "*.tex", "figures/*.*") for path in out.glob(pattern)]
    for path in sorted(set(present) - set(files)):
        loaded.note(f"{path} belongs to an earlier report, not to this one")
