"""Pass@k over k as bars of text, for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from progrpo_cli import escape
from progrpo_cli.reporting.analysis.compare import pass_at_k_curves
from progrpo_cli.reporting.analysis.dataset import Row

_BAR = 50  # characters for a Pass@k of 1
_EIGHTHS = " ▏▎▍▌▋▊▉"


def pass_at_k(groups: Sequence[Sequence[Row]]) -> list[str]:
    """Lines of text with one bar per row and k = 1, 4, 16, ... up to the row's n, and its 95 % interval in brackets.

    Args:
        groups: the rows of each task.
    """
    lines = []
    for rows in groups:
        n = max(row.n for row in rows)
        ks = [k for k in (4**power for power in range(20)) if k <= n]
        lines.append(escape.plain(f"Pass@k over k, {rows[0].task} ({rows[0].split} split)"))
        width = max(len(escape.plain(row.name)) for row in rows)
        for k, intervals in pass_at_k_curves(rows, ks).items():
            for index, (name, mean) in enumerate(intervals.items()):
                head = f"k = {k:<4}" if index == 0 else " " * 8
                label = escape.plain(name).ljust(width)
                lines.append(f"{head} {label} {_bar(mean.value)} {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]")
    return lines


def _bar(value: float) -> str:
    whole, eighths = divmod(round(value * _BAR * 8), 8)
    return ("█" * whole + (_EIGHTHS[eighths] if eighths else "")).ljust(_BAR)
