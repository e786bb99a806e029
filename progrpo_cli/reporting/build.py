"""A report from its sources to its files."""

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
from progrpo_cli.reporting.reading.parallel import helper
from progrpo_cli.reporting.rendering import figures, render, terminal_figure
from progrpo_cli.reporting.rendering.page import Content, page

FORMATS = ("term", "md", "tex", "csv", "html")

PAGE = "index.html"


@dataclass(frozen=True)
class ReportResult:
    """What a report says and where it is."""

    out: Path
    files: list[Path]
    main: Table
    frontier: list[Table]
    """Trained methods against their base's temperatures: one, or none where the base has one temperature."""
    findings: list[str]
    """What the numbers say, in words."""
    ablations: list[Table]
    power: Table | None
    """How many seeds and problems would show a difference, if that was asked for."""
    provenance: Table
    published: Table
    training: list[Table]
    """Of the training problems, one where it was asked for."""
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
    mixed: bool = False,
    offline: bool = False,
    training: bool = False,
    power: float | None = None,
) -> ReportResult:
    """Read the runs, compare them, and write tables and figures into ``out``.

    Args:
        read_from: sources, see :func:`progrpo_cli.reporting.reading.sources.read`; none: everything below ``runs/``.
        out: created if need be; its files are replaced one by one, each at once.
        formats: of the tables; figures are always drawn, and ``term`` is the caller's to print.
        baseline: a row's label, or the name of a method that has one row; None: ``grpo`` if it is there.
        ks: the k of Pass@k; None: those that the evaluations were scored with.
        mixed: show evaluations of one task and split that were measured differently, with footnotes.
        offline: ask no W&B server, read what was fetched before.
        training: put Pass@k on the training problems beside the test's.
        power: say how many seeds and problems would show this difference to the baseline.

    Raises:
        RequestError: nothing to report, unknown format or baseline, k above n; nothing has been written then.
        WorkError: evaluations that cannot share a column.
    """
    for name in formats:
        if name not in FORMATS:
            raise RequestError(f"unknown format {name!r}{nearest(name, FORMATS)} (valid: {', '.join(FORMATS)})")
    with heavy.seldom_collected(), helper() as both:
        loaded = sources.read(list(read_from), offline=offline, helper=both)
        both.start(len(loaded.runs))
        both.prepare(*figures.MODULES)
        evaluated = dataset.build_dataset(loaded, mixed=mixed)
        if not evaluated.rows:
            places = ", ".join(read_from) or sources.DEFAULT
            raise RequestError(
                f"no evaluated runs under {places}: {len(loaded.runs)} runs without scores; try `progrpo eval`"
            )
        chosen = choose_baseline(evaluated.rows, baseline, loaded)
        asked, ks = ks, choose_ks(evaluated.rows, ks, loaded)
        passes = [f"pass@{k}" for k in ks]
        columns, about = select_rows(evaluated, chosen, passes)
        about += one_seed_note(columns)
        compared = compare_with_temperatures(evaluated.rows, passes)
        over_all = both.begin(figures.planned(columns, about, passes, out / "figures", compared))
        main = main_table(evaluated, loaded, ks=ks, baseline=chosen)
        ablations = ablation_tables(evaluated, main, loaded)
        over_settings = both.begin(figures.plan_ablation_figures(ablations, main, out / "figures"))
        provenance = provenance_table(evaluated, loaded)
        published = published_table()
        of_temperatures = [frontier_table(compared)] if compared else []
        of_training = [training_table(evaluated, main)] if training else []
        planned = [] if power is None else [power_table(evaluated.rows, main.metrics, chosen, power)]
        tidy_frame = Table("frame", "Every number", dataset.tidy_frame(evaluated, loaded, main.metrics), (), None, ())
        made = [main, *of_temperatures, *ablations, *of_training, *planned]
        files = _write_tables([*made, provenance, published], out, formats, loaded.notes)
        if "csv" in formats:
            files.append(_write(out / "frame.csv", render.csv_text(tidy_frame)))
        drawn = [*over_all(), *over_settings()]
    files += [file for each in drawn for file in each.files]
    _note_leftovers(out, [*files, out / PAGE], loaded)
    said = findings(evaluated, main, compared)
    if "html" in formats:
        again = reproduce(read_from, out=out, baseline=baseline, ks=asked, mixed=mixed, training=training, power=power)
        content = Content(
            findings=said,
            caveats=caveats(evaluated, main, loaded.notes),
            tables=[*made, published],
            figures=drawn,
            provenance=provenance,
            commands={
                **commands(evaluated),
                again: "Made this report:",
            },
            notes=loaded.notes,
        )
        files.append(_write(out / PAGE, page(content)))
    curves = terminal_figure.pass_at_k(columns)
    return ReportResult(
        out,
        files,
        main,
        of_temperatures,
        said,
        ablations,
        next(iter(planned), None),
        provenance,
        published,
        of_training,
        curves,
        loaded.notes,
    )


def reproduce(
    read_from: Sequence[str],
    *,
    out: Path,
    baseline: str | None,
    ks: Sequence[int] | None,
    mixed: bool,
    training: bool = False,
    power: float | None = None,
) -> str:
    """The command that makes this report again."""
    options = [
        *(["--baseline", baseline] if baseline else []),
        *(["--k", ",".join(map(str, ks))] if ks else []),
        *(["--mixed"] if mixed else []),
        *(["--training"] if training else []),
        *(["--power", "--difference", f"{power:g}"] if power is not None else []),
    ]
    return shlex.join(["progrpo", "report", *read_from, *options, "--out", str(out)])


def _write_tables(made: Sequence[Table], out: Path, formats: Sequence[str], notes: Sequence[str]) -> list[Path]:
    """What was published stands under the main table and alone as CSV: main.csv has only what was measured."""
    published = [table for table in made if table.name == "published"]
    written = []
    for table in made:
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
    """Files of an earlier report in the same place are not removed, but nobody must take them for this one's."""
    ours = [path for pattern in ("*.csv", "*.md", "*.tex", "figures/*.*") for path in out.glob(pattern)]
    for path in sorted(set(ours) - set(files)):
        loaded.note(f"{path} is of an earlier report, not of this one")
