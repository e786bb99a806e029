"""Draw the figures, each from its data alone, which are also written as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from progrpo_cli import escape
from progrpo_cli.records.files import write_text
from progrpo_cli.reporting.analysis import figure_data
from progrpo_cli.reporting.analysis.ablations import swept_key
from progrpo_cli.reporting.analysis.dataset import Row
from progrpo_cli.reporting.analysis.frontier import FrontierComparison, sentences
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.reading.record import Floats
from progrpo_cli.reporting.rendering.figure_style import (
    COLOURS,
    MARKERS,
    STYLES,
    Looks,
    assign_looks,
    display_name,
    figure,
    finish,
)
from progrpo_cli.reporting.rendering.render import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURES = ("pass_at_k", "plane", "entropy", "pass_at_1")
"""Names of the figures that do not depend on the methods."""
MODULES = (__name__, "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf")
"""Modules that drawing needs, some of which are otherwise imported with the first figure."""


@dataclass(frozen=True)
class ReportFigure:
    """A written figure with its texts."""

    path: Path
    """The PNG; the ``.pdf`` and ``.csv`` are in the same directory."""
    title: str
    caption: str
    alt: str
    """Alternative text for the page."""

    @property
    def files(self) -> list[Path]:
        """The PNG, PDF and CSV."""
        return [self.path, self.path.with_suffix(".pdf"), self.path.with_suffix(".csv")]


def plan_figures(
    groups: Sequence[Sequence[Row]],
    note: str,
    passes: Sequence[str],
    directory: Path,
    comparisons: Sequence[FrontierComparison] = (),
) -> Iterator[Callable[[], ReportFigure]]:
    """Yield a function that draws and writes each figure that the data allow. Their data are computed here.

    The figures are Pass@k over k, Pass@1 against Pass@k, and over steps entropy, Pass@1 and the methods' curves.

    Args:
        groups, note: see :func:`progrpo_cli.reporting.analysis.figure_data.select_rows`.
        passes: the report's Pass@k, ascending.
        directory: created if necessary.
        comparisons: comparisons with the temperatures of the base.
    """
    directory.mkdir(parents=True, exist_ok=True)
    looks = assign_looks([row for rows in groups for row in rows])
    yield partial(_draw_pass_at_k, figure_data.pass_at_k(groups), looks, directory, note)
    last = passes[-1]
    points = figure_data.plane(groups, last, comparisons)
    if last != "pass@1" and len(points):  # empty if only a split without figures has the last k
        here = {(rows[0].task, rows[0].split) for rows in groups}
        words = " ".join(sentences([item for item in comparisons if (item.row.task, item.row.split) in here]))
        yield partial(_draw_plane, points, last, looks, directory, note, words)
    for metric, name, label in (("entropy", "entropy", "token entropy (nats)"), ("pass@1", "pass_at_1", "Pass@1")):
        data = figure_data.over_steps(groups, metric)
        if len(data):
            yield partial(_draw_over_steps, data, name, label, looks, directory, note)
    for method, data in figure_data.method_curves(groups).items():
        yield partial(_draw_method_curves, data, method, looks, directory, note)


def plan_ablation_figures(
    ablations: Sequence[Table], main: Table, directory: Path
) -> Iterator[Callable[[], ReportFigure]]:
    """Like :func:`plan_figures`, for the first and last Pass@k over each numeric swept key."""
    for table in ablations:
        data = figure_data.ablation(table, main)
        if len(data):
            yield partial(_draw_ablation, data, table, directory)


def _draw_pass_at_k(data: pd.DataFrame, looks: Looks, directory: Path, note: str) -> ReportFigure:
    panels = list(data.groupby(["task", "split"], sort=False))
    path = directory / "pass_at_k.png"
    with figure(path, panels=len(panels), legend=len(looks)) as (_, all_axes):
        for axes, (_, panel) in zip(all_axes, panels, strict=True):
            for name, line in panel.groupby("method", sort=False):
                colour, style, _ = looks[str(name)]
                axes.plot(line["k"], line["value"], style, color=colour, lw=1, label=display_name(str(name)))
                axes.fill_between(line["k"], line["low"], line["high"], color=colour, alpha=0.15, lw=0)
            powers = [2**i for i in range(int(np.log2(panel["k"].max())) + 1)]
            axes.set_xscale("log", base=2)
            axes.set_xticks(powers, [str(k) for k in powers])
            axes.set(xlabel="k", ylabel="Pass@k")
            finish(axes, _panel_title(panel))
    largest = data["k"].max()
    values = ", ".join(f"{row['method']} {row['value']:.3f}" for row in data[data["k"] == largest].to_dict("records"))
    return _write_data(
        path,
        data,
        "Pass@k over k",
        f"Bands: 95 % bootstrap, crossed over seeds and problems.{note}",
        f"One line of Pass@k over k per method, with bands. At k = {largest}: {values}.",
    )


def _draw_plane(data: pd.DataFrame, last: str, looks: Looks, directory: Path, note: str, words: str) -> ReportFigure:
    first = "pass@1"
    panels = list(data.groupby(["task", "split"], sort=False))
    path = directory / "plane.png"
    with figure(path, panels=len(panels), legend=len(looks) + 2) as (_, all_axes):
        for axes, (_, panel) in zip(all_axes, panels, strict=True):
            for row in panel.to_dict("records"):
                extra = row["method"] not in looks  # the base at a temperature without trained policies
                colour, _, marker = ("black", "", "x") if extra else looks[row["method"]]
                axes.errorbar(
                    row[first],
                    row[last],
                    xerr=_error_bars(row[first], row[f"{first}_low"], row[f"{first}_high"]),
                    yerr=_error_bars(row[last], row[f"{last}_low"], row[f"{last}_high"]),
                    fmt=marker,
                    color=colour,
                    ms=4,
                    lw=0.8,
                    label=None if extra else display_name(row["method"]),
                )
                if extra or isinstance(row["line"], str):
                    temperature = f" {row['temperature']:g}"
                    axes.annotate(temperature, (row[first], row[last]), fontsize=6, ha="left", va="bottom")
            for name, corners in panel.dropna(subset=["line"]).groupby("line", sort=False):
                corners = corners.sort_values(first)
                label = display_name(f"line of {name}")
                axes.plot(corners[first], corners[last], "-", color="grey", lw=0.8, zorder=0, label=label)
            axes.set(xlabel=first.replace("p", "P", 1), ylabel=last.replace("p", "P", 1))
            finish(axes, _panel_title(panel))
    no_line = "There is no line: the base was not evaluated at several temperatures in the same way."
    line = f"Numbers at crosses are temperatures of the base. {words}" if words else no_line
    return _write_data(
        path,
        data,
        f"{first} against {last}",
        f"Bars: 95 % bootstrap. {line}{note}",
        f"One point per method, {first} to the right and {last} upwards, with the base's line of temperatures, if any.",
    )


def _draw_over_steps(
    data: pd.DataFrame, name: str, label: str, looks: Looks, directory: Path, note: str
) -> ReportFigure:
    path = directory / f"{name}.png"
    with figure(path, panels=1, legend=data["method"].nunique()) as (_, (axes,)):
        _lines(axes, data, looks)
        axes.set(xlabel="training step", ylabel=label)
        finish(axes, "training rollouts, at the sampling temperature")
    last = data.groupby("method", sort=False).last()
    ends = ", ".join(f"{method} {row['value']:.3f}" for method, row in last.iterrows())
    return _write_data(
        path,
        data,
        f"{label} over training steps",
        f"Lines: mean over seeds; bands: their range, at the steps that all seeds have.{note}",
        f"One line per method over training steps. At the end: {ends}.",
    )


def _draw_method_curves(data: pd.DataFrame, method: str, looks: Looks, directory: Path, note: str) -> ReportFigure:
    panels = list(data.groupby("metric", sort=False))
    path = directory / (f"{method}-curves.png" if method in FIGURES else f"{method}.png")
    with figure(path, panels=len(panels), columns=2, legend=data["method"].nunique()) as (_, all_axes):
        for axes, (metric, panel) in zip(all_axes, panels, strict=True):
            _lines(axes, panel, looks)
            axes.set_xlabel("training step", fontsize=7)
            finish(axes, str(metric).removeprefix(f"{method}/").replace("_", " "))
    return _write_data(
        path,
        data,
        f"{method}: its curves over training steps",
        f"Lines: mean over seeds; bands: their range.{note}",
        f"Small panels over training steps, one per metric: {', '.join(str(metric) for metric, _ in panels)}.",
    )


def _draw_ablation(data: pd.DataFrame, table: Table, directory: Path) -> ReportFigure:
    key = swept_key(table)
    panels = list(data.groupby(["task", "split"], sort=False))
    metrics = list(dict.fromkeys(data["metric"]))
    path = directory / f"{table.name}.png"
    entries = data.groupby(["method", "held", "metric"]).ngroups
    entries = min(entries, figure_data.MAX_LINES * len(panels))
    with figure(path, panels=len(panels), legend=entries) as (_, all_axes):
        for axes, (_, panel) in zip(all_axes, panels, strict=True):
            lines = list(panel.dropna(subset=[key]).groupby(["method", "held"], sort=False))
            for number, metric in enumerate(metrics):
                for index, ((method, held), line) in enumerate(lines):
                    line = line[line["metric"] == metric].sort_values(key)
                    name = f"{metric}, {method}" + (f" ({held})" if held else "")
                    axes.errorbar(
                        line[key].astype(float),
                        line["value"],
                        yerr=_error_bars(line["value"], line["low"], line["high"]),
                        fmt=MARKERS[index % len(MARKERS)] + STYLES[index % len(STYLES)],
                        color=COLOURS[number],
                        ms=4,
                        lw=1,
                        capsize=2,
                        label=display_name(name) if index < figure_data.MAX_LINES // len(metrics) else None,
                    )
                base = panel[panel[key].isna() & (panel["metric"] == metric)]
                for row in base.to_dict("records"):
                    name = display_name(f"{metric}, {row['method']}")
                    axes.axhline(row["value"], color=COLOURS[number], lw=0.8, ls=":", label=name)
            axes.set(xlabel=display_name(key), ylabel="Pass@k")
            finish(axes, _panel_title(panel))
    return _write_data(
        path,
        data,
        f"Pass@k over {key}",
        "Bars: 95 % bootstrap; dotted: the baseline. Along a line all other settings are equal.",
        f"{' and '.join(metrics)} over {key} = {', '.join(f'{v:g}' for v in sorted(data[key].dropna().unique()))}.",
    )


def _lines(axes: Axes, data: pd.DataFrame, looks: Looks) -> None:
    for name, line in data.groupby("method", sort=False):
        colour, style, _ = looks[str(name)]
        seeds = int(line["seeds"].iloc[0])
        label = f"{display_name(str(name))}, {seeds} seed{'s' if seeds > 1 else ''}"
        axes.plot(line["step"], line["value"], style, color=colour, lw=1, label=label)
        axes.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.15, lw=0)


def _error_bars(value: Any, low: Any, high: Any) -> Floats:
    """Distances to the ends of intervals, at least 0: the interval of a skewed statistic may exclude its mean."""
    middle = np.atleast_1d(np.asarray(value, dtype=float))
    bars: Floats = np.maximum(np.stack([middle - np.atleast_1d(low), np.atleast_1d(high) - middle]), 0.0)
    return bars


def _panel_title(panel: pd.DataFrame) -> str:
    first = panel.iloc[0]
    problems, counts, seeds = (
        " or ".join(str(count) for count in sorted(panel[name].unique())) for name in ("problems", "n", "seeds")
    )
    return (
        f"{display_name(str(first['task']))} ({display_name(str(first['split']))}), {problems} problems, "
        f"n = {counts},\n{seeds} seed{'s' if seeds != '1' else ''} per row"
    )


def _write_data(path: Path, data: pd.DataFrame, title: str, caption: str, alt: str) -> ReportFigure:
    write_text(path.with_suffix(".csv"), csv_text(Table(path.stem, title, data, (), None, ())))
    return ReportFigure(path, title, caption, escape.plain(alt))
