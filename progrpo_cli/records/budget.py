"""What training took: updates, the samples and tokens drawn for them, seconds; running totals on every logged line.

They are about the way to the policy. What was drawn after a checkpoint and lost with its process is drawn again; as far
as it was logged it is counted apart, under ``taken_back`` in the manifest.
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
    """Over all processes; None is unknown: nobody counted it then."""

    updates: int
    samples_drawn: int | None
    """Completions sampled to learn from, those of refills and of groups that were left out included."""
    tokens_drawn: int | None
    """Their tokens, the end-of-sequence token included, prompts not."""
    train_seconds: float | None
    """Of the updates, sampling included; start-up, held-out scores and writing apart."""


def budget_of(line: Mapping[str, Any]) -> Budget:
    """The budget until a logged line; whatever is no number is unknown."""
    samples, tokens, seconds = (_number(line.get(name)) for name in TOTALS)
    return Budget(
        updates=int(line["step"]),
        samples_drawn=None if samples is None else int(samples),
        tokens_drawn=None if tokens is None else int(tokens),
        train_seconds=seconds,
    )


def budget_field(run: RunDirectory) -> dict[str, Any]:
    """``{"budget": ...}`` for the manifest; empty before the first logged update."""
    lines = run.metrics()
    return {"budget": asdict(budget_of(lines[-1]))} if lines else {}


def take_back(run: RunDirectory, resumed_at: int) -> None:
    """Remove the lines of updates after ``resumed_at``, which are made again, and count them in the manifest."""
    lines = run.metrics()
    kept = [line for line in lines if line["step"] <= resumed_at]
    if len(kept) == len(lines):
        return
    start = kept[-1] if kept else {"step": 0, **dict.fromkeys(TOTALS, 0)}
    until, since = asdict(budget_of(lines[-1])), asdict(budget_of(start))
    before = run.manifest().get("taken_back") or dict.fromkeys((UPDATES, *TOTALS), 0)
    total = {name: _sum(before[name], until[name], since[name]) for name in (UPDATES, *TOTALS)}
    run.update(taken_back=total)
    files.write_text(run.metrics_path, files.json_lines(kept))


def _sum(before: float | None, until: float | None, since: float | None) -> float | None:
    if before is None or until is None or since is None:
        return None
    return round(before + until - since, 3) if isinstance(until, float) else before + until - since


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None  # type: ignore[arg-type, return-value]
