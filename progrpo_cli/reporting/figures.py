"""The figures: PNG at 200 dpi, one column wide, in colours that colour-blind readers can tell apart."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from progrpo_cli.reporting import escape
from progrpo_cli.reporting.frame import Frame, Row
from progrpo_cli.reporting.tables import Table, pass_at_k_curve, preferred, seeds_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/) without yellow, too light for a line; black is the base's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
Looks = Mapping[str, tuple[str, str]]
"""Row label -> colour and line style."""
_STYLES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_WIDTH, _HEIGHT, _DPI = 4.2, 3.1, 200  # inches; a panel


def draw(frame: Frame, main: Table, ablations: Sequence[Table], directory: Path) -> list[Path]:
    """Draw what the data allow: Pass@k over k, training entropy over steps, and a figure a numeric swept key.

    Returns:
        The files written, below ``directory``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    columns = preferred(frame.rows)
    looks = _looks(frame.rows)
    drawn = [_pass_at_k(columns, looks, directory / "pass_at_k.png")]
    histories = _entropy_curves(frame)
    if histories:
        drawn.append(_entropy(histories, looks, directory / "entropy.png"))
    for table in ablations:
        panels = _ablation_panels(table)
        if panels:
            drawn.append(_ablation(table, main, panels, directory / f"{table.name}.png"))
    return drawn


def _pass_at_k(columns: Sequence[Sequence[Row]], looks: Looks, path: Path) -> Path:
    with _figure(len(columns), path) as panels:
        for axes, rows in zip(panels, columns, strict=True):
            n = rows[0].evaluations[0].n
            ks = sorted({*(round(2 ** (i / 2)) for i in range(2 * int(math.log2(n)) + 1)), n})
            curve = pass_at_k_curve(rows, ks)
            for row in rows:
                points = [curve[k][row.label] for k in ks]
                colour, style = looks[row.label]
                axes.plot(ks, [p.value for p in points], style, color=colour, label=_name(row.label))
                axes.fill_between(ks, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15, lw=0)
            axes.set_xscale("log", base=2)
            axes.set_xticks(_powers_of_two(n), [str(k) for k in _powers_of_two(n)])
            axes.set(xlabel="k", ylabel="Pass@k")
            _finish(axes, f"{_about(rows)}, n = {n}\nbands: 95 % bootstrap, {seeds_of(rows)} a line")
    return path


def _entropy_curves(frame: Frame) -> dict[str, list[pd.Series[float]]]:
    """For each label a training-entropy series over steps for each seed that logged one."""
    curves: dict[str, dict[str, pd.Series[float]]] = {}
    for row in frame.rows:
        for e in row.evaluations:
            points = {
                int(entry["step"]): float(value)
                for entry in e.run.tracked.history
                if isinstance(value := entry.get("entropy"), int | float) and math.isfinite(value)
            }
            if points and e.run.identity.kind == "run":
                curves.setdefault(row.label, {})[e.run.tracked.id] = pd.Series(points, dtype=float).sort_index()
    return {label: list(of_runs.values()) for label, of_runs in curves.items()}


def _entropy(curves: dict[str, list[pd.Series[float]]], looks: Looks, path: Path) -> Path:
    with _figure(1, path) as panels:
        for label, series in curves.items():
            table = pd.concat(series, axis=1).dropna()  # a mean over changing seeds would jump where one ends
            steps = table.index.to_numpy()
            colour, style = looks[label]
            panels[0].plot(
                steps,
                table.mean(axis=1),
                style,
                color=colour,
                lw=1,
                label=f"{_name(label)}, {len(series)} seed{'s' if len(series) > 1 else ''}",
            )
            panels[0].fill_between(steps, table.min(axis=1), table.max(axis=1), color=colour, alpha=0.15, lw=0)
        panels[0].set(xlabel="training step", ylabel="token entropy (nats)")
        _finish(panels[0], "training rollouts, at the sampling temperature\nline: mean, band: range over seeds")
    return path


def _ablation_panels(table: Table) -> list[pd.DataFrame]:
    """A frame for each task (its test split if there is one) of at least two numeric values."""
    key = _swept_key(table)
    numeric = [isinstance(value, int | float) and not isinstance(value, bool) for value in table.frame[key]]
    if not all(numeric) or not np.isfinite(table.frame[key].astype(float)).all():
        return []
    panels = []
    for _, of_task in table.frame.groupby("task", sort=False):
        split = "test" if (of_task["split"] == "test").any() else of_task["split"].iloc[0]
        panel = of_task[of_task["split"] == split]
        if panel[key].nunique() > 1:
            panels.append(panel)
    return panels


def _ablation(table: Table, main: Table, frames: Sequence[pd.DataFrame], path: Path) -> Path:
    key = _swept_key(table)
    passes = [metric for metric in table.metrics if metric.startswith("pass@")]
    metrics = list(dict.fromkeys([passes[0], passes[-1]]))
    with _figure(len(frames), path) as panels:
        for axes, panel in zip(panels, frames, strict=True):
            lines = list(panel.groupby(["method", "held"], sort=False))
            for number, metric in enumerate(metrics):
                for of_line, ((method, held), line) in enumerate(lines):
                    line = line.sort_values(key).dropna(subset=[metric])
                    errors = [line[metric] - line[f"{metric}_low"], line[f"{metric}_high"] - line[metric]]
                    name = f"{metric}, {method}" + (f" ({held})" if held else "")
                    axes.errorbar(
                        line[key].astype(float),
                        line[metric],
                        # A percentile interval of a skewed statistic need not hold its mean; no bar is below zero.
                        yerr=np.maximum(np.array(errors, dtype=float), 0.0),
                        fmt=_MARKERS[of_line % len(_MARKERS)] + _STYLES[of_line % len(_STYLES)],
                        color=COLOURS[number],
                        ms=4,
                        lw=1,
                        capsize=2,
                        label=_name(name),
                    )
                _reference(axes, main, panel, metric, COLOURS[number])
            first = panel.iloc[0]
            seeds = " or ".join(str(count) for count in sorted(panel["seeds"].unique()))
            axes.set(xlabel=escape.plain(key), ylabel="Pass@k")
            _finish(
                axes,
                f"{_name(first['task'])} ({first['split']}), {first['problems']} problems, n = {first['n']}\n"
                f"bars: 95 % bootstrap, {seeds} seeds a point",
            )
    return path


def _reference(axes: Axes, main: Table, panel: pd.DataFrame, metric: str, colour: str) -> None:
    """The baseline as a thin dotted line, where it is not one of the points."""
    frame = main.frame
    first = panel.iloc[0]
    same = (frame["method"] == main.baseline) & (frame["task"] == first["task"]) & (frame["split"] == first["split"])
    for value in frame[same][metric].dropna():
        axes.axhline(value, color=colour, lw=0.8, ls=":", label=_name(f"{metric}, {main.baseline}"))


def _swept_key(table: Table) -> str:
    return str(table.frame.columns[2])


@contextmanager
def _figure(count: int, path: Path) -> Iterator[list[Axes]]:
    """``count`` panels above each other; the file appears when everything has been drawn, all at once."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(_WIDTH, _HEIGHT * count), layout="constrained")
    FigureCanvasAgg(figure)  # a figure of its own: pyplot would keep global state and look for a display
    yield list(figure.subplots(count, 1, squeeze=False)[:, 0])
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    figure.savefig(partial, dpi=_DPI, format="png")
    os.replace(partial, path)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=7)
    axes.grid(alpha=0.25, lw=0.5)
    axes.legend(fontsize=6, frameon=False)
    axes.tick_params(labelsize=7)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(8)


def _looks(rows: Sequence[Row]) -> Looks:
    """A row has the same line in every figure; that of the base is black and dashed."""
    labels = dict.fromkeys(row.label for row in rows if not _is_base(row))
    looks = {
        label: (COLOURS[number % len(COLOURS)], _STYLES[number // len(COLOURS) % len(_STYLES)])
        for number, label in enumerate(labels)
    }
    return {**looks, **{row.label: ("black", "--") for row in rows if _is_base(row)}}


def _is_base(row: Row) -> bool:
    return row.run.identity.kind == "model" and row.label.startswith("base")


def _name(text: str) -> str:
    """matplotlib would read dollar signs as mathematics, and hide a label that begins with an underscore."""
    return escape.plain(text).replace("$", r"\$").lstrip("_")


def _about(rows: Sequence[Row]) -> str:
    first = rows[0].evaluations[0]
    return f"{_name(first.task)} ({first.split}), {len(first.problem_ids)} problems"


def _powers_of_two(n: int) -> list[int]:
    return [2**i for i in range(int(math.log2(n)) + 1)]
