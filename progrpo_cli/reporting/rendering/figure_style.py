"""What all figures share: one column wide, 200 dpi and vector, colours that colour-blind readers can tell apart."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progrpo_cli import escape
from progrpo_cli.records.files import beside
from progrpo_cli.reporting.analysis.dataset import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/) without yellow, too light for a line; black is the base's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P")
Looks = Mapping[str, tuple[str, str, str]]
"""Row name -> colour, line style and marker."""
_WIDTH, _HEIGHT, _LEGEND_ROW, DPI = 3.5, 2.3, 0.14, 200  # inches: a column's width, a panel, a line of the legend


def assign_looks(rows: Sequence[Row]) -> Looks:
    """A row has the same line in every figure; that of the base is black and dashed."""
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
    """Axes to draw into; afterwards ``path`` (a PNG) and the same as PDF appear, each at once.

    Args:
        panels: how many axes.
        columns: side by side.
        legend: about how many entries the one legend below all of them has; it has those of all axes, each once.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-panels // columns)
    height = _HEIGHT / (1 if columns == 1 else 1.6) * rows + _LEGEND_ROW * (legend + 1) + 0.2
    small: Any = {"font.size": 7, "axes.titlesize": 7, "axes.labelsize": 8, "legend.fontsize": 7, "pdf.fonttype": 42}
    with mpl.rc_context(small):
        made: Figure = Figure(figsize=(_WIDTH, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(made)  # a figure of its own: pyplot would keep global state and look for a display
        axes = list(made.subplots(rows, columns, squeeze=False).ravel())
        for unused in axes[panels:]:
            unused.set_axis_off()
        yield made, axes[:panels]
        handles, names = merge_legends(axes)
        made.legend(handles, names, loc="outside lower center", ncols=1, frameon=False)
        made.draw_without_rendering()
        made.set_layout_engine(None)  # it stays as it was laid out: that takes as long as drawing
        pdf = path.with_suffix(".pdf")
        for target, metadata in ((path, {}), (pdf, {"CreationDate": None})):
            partial = beside(target)
            made.savefig(partial, format=target.suffix[1:], metadata=metadata)
            os.replace(partial, target)


def merge_legends(all_axes: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    """Handles and labels of all axes; what an earlier one has is not repeated."""
    handles: list[Any] = []
    names: list[str] = []
    for axes in all_axes:
        new = [entry for entry in zip(*axes.get_legend_handles_labels(), strict=True) if entry[1] not in names]
        handles += [handle for handle, _ in new]
        names += [str(name) for _, name in new]
    return handles, names


def finish(axes: Axes, title: str = "") -> None:
    """Title and grid."""
    axes.set_title(title)
    axes.grid(alpha=0.25, lw=0.5)


def display_name(text: str) -> str:
    """Keys by their last parts; matplotlib would read dollar signs as mathematics, and hide a leading underscore."""
    short = re.sub(r"[\w.]+\.(\w+)=", r"\1=", escape.plain(text))
    return short.replace("$", r"\$").lstrip("_") or "?"
