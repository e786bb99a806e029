"""The figures: each from its data alone, which stand beside it as CSV."""

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
"""The names of the figures that every report has, or may have."""
MODULES = (__name__, "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf")
"""What drawing needs, some of it not before the first figure."""


@dataclass(frozen=True)
class ReportFigure:
    """One figure that was written."""

    path: Path
    """The PNG; ``.pdf`` and ``.csv`` stand beside it."""
    title: str
    caption: str
    alt: str
    """What it shows, for those who do not see it."""

    @property
    def files(self) -> list[Path]:
        """All of its files."""
        return [self.path, self.path.with_suffix(".pdf"), self.path.with_suffix(".csv")]


def planned(
    columns: Sequence[Sequence[Row]],
    about: str,
    passes: Sequence[str],
    directory: Path,
    compared: Sequence[FrontierComparison] = (),
) -> Iterator[Callable[[], ReportFigure]]:
    """For each figure that the data allow what draws it: its data are put together at once, the drawing takes longer.

    Pass@k over k; Pass@1 against Pass@k; entropy, Pass@1 and what the methods declared over steps.

    Args:
        columns, about: see :func:`progrpo_cli.reporting.analysis.figure_data.select_rows`.
        passes: the report's Pass@k, ascending.
        directory: made if need be.
        compared: what was set against the temperatures of its base.
    """
    directory.mkdir(parents=True, exist_ok=True)
    looks = assign_looks([row for rows in columns for row in rows])
    yield partial(_pass_at_k, figure_data.pass_at_k(columns), looks, directory, about)
    last = passes[-1]
    points = figure_data.plane(columns, last, compared)
    if last != "pass@1" and len(points):  # a split that no figure shows may be the only one with the last
        here = {(rows[0].task, rows[0].split) for rows in columns}
        words = " ".join(sentences([each for each in compared if (each.row.task, each.row.split) in here]))
        yield partial(_plane, points, last, looks, directory, about, words)
    for metric, name, label in (("entropy", "entropy", "token entropy (nats)"), ("pass@1", "pass_at_1", "Pass@1")):
        data = figure_data.over_steps(columns, metric)
        if len(data):
            yield partial(_over_steps, data, name, label, looks, directory, about)
    for method, data in figure_data.method_curves(columns).items():
        yield partial(_of_a_method, data, method, looks, directory, about)


def plan_ablation_figures(
    ablations: Sequence[Table], main: Table, directory: Path
) -> Iterator[Callable[[], ReportFigure]]:
    """As :func:`planned`: Pass@1 and Pass@k over each numeric swept key."""
    for table in ablations:
        data = figure_data.ablation(table, main)
        if len(data):
            yield partial(_ablation, data, table, directory)


def _pass_at_k(data: pd.DataFrame, looks: Looks, directory: Path, about: str) -> ReportFigure:
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
            finish(axes, _measured(panel))
    largest = data["k"].max()
    said = ", ".join(f"{row['method']} {row['value']:.3f}" for row in data[data["k"] == largest].to_dict("records"))
    return _written(
        path,
        data,
        "Pass@k over k",
        f"Bands: 95 % bootstrap, crossed over seeds and problems.{about}",
        f"Lines of Pass@k rising with k, one a method, with bands. At k = {largest}: {said}.",
    )


def _plane(data: pd.DataFrame, last: str, looks: Looks, directory: Path, about: str, words: str) -> ReportFigure:
    first = "pass@1"
    panels = list(data.groupby(["task", "split"], sort=False))
    path = directory / "plane.png"
    with figure(path, panels=len(panels), legend=len(looks) + 2) as (_, all_axes):
        for axes, (_, panel) in zip(all_axes, panels, strict=True):
            for row in panel.to_dict("records"):
                other = row["method"] not in looks  # the base at a temperature that nothing trained was evaluated at
                colour, _, marker = ("black", "", "x") if other else looks[row["method"]]
                axes.errorbar(
                    row[first],
                    row[last],
                    xerr=_bars(row[first], row[f"{first}_low"], row[f"{first}_high"]),
                    yerr=_bars(row[last], row[f"{last}_low"], row[f"{last}_high"]),
                    fmt=marker,
                    color=colour,
                    ms=4,
                    lw=0.8,
                    label=None if other else display_name(row["method"]),
                )
                if other or isinstance(row["line"], str):
                    at = f" {row['temperature']:g}"
                    axes.annotate(at, (row[first], row[last]), fontsize=6, ha="left", va="bottom")
            for name, corners in panel.dropna(subset=["line"]).groupby("line", sort=False):
                corners = corners.sort_values(first)
                label = display_name(f"line of {name}")
                axes.plot(corners[first], corners[last], "-", color="grey", lw=0.8, zorder=0, label=label)
            axes.set(xlabel=first.replace("p", "P", 1), ylabel=last.replace("p", "P", 1))
            finish(axes, _measured(panel))
    no_line = "There is no line of temperatures: the base was evaluated at one temperature at most, or not alike."
    line = f"Numbers at crosses: temperatures of the base. {words}" if words else no_line
    return _written(
        path,
        data,
        f"{first} against {last}",
        f"Bars: 95 % bootstrap. {line}{about}",
        f"One point a method, {first} to the right and {last} upwards; a line through the base's temperatures, if any.",
    )


def _over_steps(data: pd.DataFrame, name: str, label: str, looks: Looks, directory: Path, about: str) -> ReportFigure:
    path = directory / f"{name}.png"
    with figure(path, panels=1, legend=data["method"].nunique()) as (_, (axes,)):
        _lines(axes, data, looks)
        axes.set(xlabel="training step", ylabel=label)
        finish(axes, "training rollouts, at the sampling temperature")
    last = data.groupby("method", sort=False).last()
    ends = ", ".join(f"{method} {row['value']:.3f}" for method, row in last.iterrows())
    return _written(
        path,
        data,
        f"{label} over training steps",
        f"Line: mean over seeds, band: their range, at the steps that all seeds have.{about}",
        f"One line a method over training steps. At the end: {ends}.",
    )


def _of_a_method(data: pd.DataFrame, method: str, looks: Looks, directory: Path, about: str) -> ReportFigure:
    panels = list(data.groupby("metric", sort=False))
    path = directory / (f"{method}-curves.png" if method in FIGURES else f"{method}.png")
    with figure(path, panels=len(panels), columns=2, legend=data["method"].nunique()) as (_, all_axes):
        for axes, (metric, panel) in zip(all_axes, panels, strict=True):
            _lines(axes, panel, looks)
            axes.set_xlabel("training step", fontsize=7)
            finish(axes, str(metric).removeprefix(f"{method}/").replace("_", " "))
    return _written(
        path,
        data,
        f"{method}: what it measures, over training steps",
        f"Line: mean over seeds, band: their range.{about}",
        f"Small panels over training steps, one a metric: {', '.join(str(metric) for metric, _ in panels)}.",
    )


def _ablation(data: pd.DataFrame, table: Table, directory: Path) -> ReportFigure:
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
                for of_line, ((method, held), line) in enumerate(lines):
                    line = line[line["metric"] == metric].sort_values(key)
                    name = f"{metric}, {method}" + (f" ({held})" if held else "")
                    axes.errorbar(
                        line[key].astype(float),
                        line["value"],
                        yerr=_bars(line["value"], line["low"], line["high"]),
                        fmt=MARKERS[of_line % len(MARKERS)] + STYLES[of_line % len(STYLES)],
                        color=COLOURS[number],
                        ms=4,
                        lw=1,
                        capsize=2,
                        label=display_name(name) if of_line < figure_data.MAX_LINES // len(metrics) else None,
                    )
                base = panel[panel[key].isna() & (panel["metric"] == metric)]
                for row in base.to_dict("records"):
                    name = display_name(f"{metric}, {row['method']}")
                    axes.axhline(row["value"], color=COLOURS[number], lw=0.8, ls=":", label=name)
            axes.set(xlabel=display_name(key), ylabel="Pass@k")
            finish(axes, _measured(panel))
    return _written(
        path,
        data,
        f"Pass@k over {key}",
        "Bars: 95 % bootstrap; dotted: the baseline. All other settings are equal along a line.",
        f"{' and '.join(metrics)} over {key} = {', '.join(f'{v:g}' for v in sorted(data[key].dropna().unique()))}.",
    )


def _lines(axes: Axes, data: pd.DataFrame, looks: Looks) -> None:
    for name, line in data.groupby("method", sort=False):
        colour, style, _ = looks[str(name)]
        seeds = int(line["seeds"].iloc[0])
        label = f"{display_name(str(name))}, {seeds} seed{'s' if seeds > 1 else ''}"
        axes.plot(line["step"], line["value"], style, color=colour, lw=1, label=label)
        axes.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.15, lw=0)


def _bars(value: Any, low: Any, high: Any) -> Floats:
    """A percentile interval of a skewed statistic need not hold its mean; no bar is below zero."""
    middle = np.atleast_1d(np.asarray(value, dtype=float))
    bars: Floats = np.maximum(np.stack([middle - np.atleast_1d(low), np.atleast_1d(high) - middle]), 0.0)
    return bars


def _measured(panel: pd.DataFrame) -> str:
    first = panel.iloc[0]
    problems, counts, seeds = (
        " or ".join(str(count) for count in sorted(panel[name].unique())) for name in ("problems", "n", "seeds")
    )
    return (
        f"{display_name(str(first['task']))} ({display_name(str(first['split']))}), {problems} problems, n = {counts},\n"
        f"{seeds} seed{'s' if seeds != '1' else ''} a row"
    )


def _written(path: Path, data: pd.DataFrame, title: str, caption: str, alt: str) -> ReportFigure:
    write_text(path.with_suffix(".csv"), csv_text(Table(path.stem, title, data, (), None, ())))
    return ReportFigure(path, title, caption, escape.plain(alt))
