"""The cost of training: updates, samples, tokens and seconds, as running totals on every logged line.

The totals count the work that led to the current policy. Work after the last checkpoint of a process that died is
repeated; its logged part is counted separately, as ``taken_back`` in the manifest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from progrpo_cli.records import files
from progrpo_cli.records.rundir import RunDirectory

UPDATES = "updates"
TOTALS = ("samples_drawn", "tokens_drawn", "train_seconds")
"""Names of the running totals in ``metrics.jsonl``, in W&B, in the manifest and in the tables of reports."""


@dataclass(frozen=True)
class Budget:
    """Totals over all processes; None: an earlier version did not count it."""

    updates: int
    samples_drawn: int | None
    """Completions sampled for training, including refills and dropped groups."""
    tokens_drawn: int | None
    """Tokens of these completions, including the end-of-sequence token, without the prompts."""
    train_seconds: float | None
    """Duration of the updates including sampling, without start-up, validation and writing."""


def budget_of(line: Mapping[str, Any]) -> Budget:
    """Return the totals at a logged line; values that are not numbers are unknown."""
    samples, tokens, seconds = (_number(line.get(name)) for name in TOTALS)
    return Budget(
        updates=int(line["step"]),
        samples_drawn=None if samples is None else int(samples),
        tokens_drawn=None if tokens is None else int(tokens),
        train_seconds=seconds,
    )


def budget_field(run: RunDirectory) -> dict[str, Any]:
    """Return ``{"budget": ...}`` for the manifest; empty before the first logged update."""
    lines = run.metrics()
    return {"budget": asdict(budget_of(lines[-1]))} if lines else {}


def take_back(run: RunDirectory, resumed_at: int) -> None:
    """Remove the lines of updates after ``resumed_at``, which will be repeated, and count them in the manifest."""
    lines = run.metrics()
    kept = [line for line in lines if line["step"] <= resumed_at]
    if len(kept) == len(lines):
        return
    last_kept = kept[-1] if kept else {"step": 0, **dict.fromkeys(TOTALS, 0)}
    end, start = asdict(budget_of(lines[-1])), asdict(budget_of(last_kept))
    before = run.manifest().get("taken_back") or dict.fromkeys((UPDATES, *TOTALS), 0)
    total = {name: _add_difference(before[name], end[name], start[name]) for name in (UPDATES, *TOTALS)}
    run.update(taken_back=total)
    files.write_text(run.metrics_path, files.json_lines(kept))


def _add_difference(before: float | None, end: float | None, start: float | None) -> float | None:
    if before is None or end is None or start is None:
        return None
    return round(before + end - start, 3) if isinstance(end, float) else before + end - start


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None  # type: ignore[arg-type, return-value]
