"""The common style of all figures: one column wide, 200 dpi and vector, in colours for colour-blind readers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progrpo_cli import escape
from progrpo_cli.records.files import partial_path
from progrpo_cli.reporting.analysis.dataset import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/) without yellow, which is too light; the base is black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P")
Looks = Mapping[str, tuple[str, str, str]]
"""Row name -> colour, line style and marker."""
_WIDTH, _HEIGHT, _LEGEND_ROW, DPI = 3.5, 2.3, 0.14, 200  # inches: a column's width, a panel, a line of the legend


def assign_looks(rows: Sequence[Row]) -> Looks:
    """Give each row one look for all figures; the base is black and dashed."""
    names = dict.fromkeys(row.name for row in rows if not row.is_base)
    looks = {
        name: (
            COLOURS[number % len(COLOURS)],
            STYLES[number // len(COLOURS) % len(STYLES)],
            MARKERS[number % len(MARKERS)],
        )
        for number, name in enumerate(names)
    }
    return {**looks, **{row.name: ("black", "--", "x") for row in rows if row.is_base}}


@contextmanager
def figure(path: Path, *, panels: int, columns: int = 1, legend: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """Context manager. Yields a figure and its axes, and on exit writes ``path`` (PNG) and a PDF, each atomically.

    Args:
        path: the PNG file.
        panels: number of axes.
        columns: number of axes side by side.
        legend: approximate number of entries of the common legend below the axes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-panels // columns)
    height = _HEIGHT / (1 if columns == 1 else 1.6) * rows + _LEGEND_ROW * (legend + 1) + 0.2
    small: Any = {"font.size": 7, "axes.titlesize": 7, "axes.labelsize": 8, "legend.fontsize": 7, "pdf.fonttype": 42}
    with mpl.rc_context(small):
        canvas: Figure = Figure(figsize=(_WIDTH, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(canvas)  # not by pyplot, which keeps global state and looks for a display
        axes = list(canvas.subplots(rows, columns, squeeze=False).ravel())
        for unused in axes[panels:]:
            unused.set_axis_off()
        yield canvas, axes[:panels]
        handles, names = merge_legends(axes)
        canvas.legend(handles, names, loc="outside lower center", ncols=1, frameon=False)
        canvas.draw_without_rendering()
        canvas.set_layout_engine(None)  # keep this layout: computing it again takes as long as drawing
        pdf = path.with_suffix(".pdf")
        for target, metadata in ((path, {}), (pdf, {"CreationDate": None})):
            partial = partial_path(target)
            canvas.savefig(partial, format=target.suffix[1:], metadata=metadata)
            os.replace(partial, target)


def merge_legends(all_axes: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    """Handles and labels of all axes, without labels that an earlier axes already has."""
    handles: list[Any] = []
    names: list[str] = []
    for axes in all_axes:
        new = [entry for entry in zip(*axes.get_legend_handles_labels(), strict=True) if entry[1] not in names]
        handles += [handle for handle, _ in new]
        names += [str(name) for _, name in new]
    return handles, names


def finish(axes: Axes, title: str = "") -> None:
    """Set the title and the grid."""
    axes.set_title(title)
    axes.grid(alpha=0.25, lw=0.5)


def display_name(text: str) -> str:
    """Shorten keys to their last part, escape dollar signs (mathematics) and drop leading underscores (hidden)."""
    short = re.sub(r"[\w.]+\.(\w+)=", r"\1=", escape.plain(text))
    return short.replace("$", r"\$").lstrip("_") or "?"
