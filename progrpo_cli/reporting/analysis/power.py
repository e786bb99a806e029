"""The table of ``progrpo report --power``: how many seeds and problems would detect a difference."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from progrpo_cli.metrics import power
from progrpo_cli.reporting.analysis.compare import find_baseline_row, group_by_split
from progrpo_cli.reporting.analysis.dataset import Row
from progrpo_cli.reporting.analysis.main_table import UNRANKED_METRICS
from progrpo_cli.reporting.analysis.table import Table

PROBLEMS = (300, 1000)
"""Numbers of problems to plan for, besides the current number."""


def power_table(rows: Sequence[Row], metrics: Sequence[str], baseline: str | None, difference: float) -> Table:
    """One row per method, task, split and tested metric; no rows without a baseline.

    Args:
        difference: the difference to detect, in the unit of each metric.
    """
    records = [
        _record(row, base, metric, difference)
        for group in group_by_split(rows)
        for row in group
        if (base := find_baseline_row(row, group, baseline)) is not None and base.name != row.name
        for metric in metrics
        if metric not in UNRANKED_METRICS and row.values(metric) is not None and base.values(metric) is not None
    ]
    columns = list(records[0]) if records else ["method", "task", "split", "metric"]
    caption = [
        f"Seeds per method, or problems, that would detect a difference of {difference:g} to "
        f"{baseline or 'a baseline (there is none here)'} with 80 % power, at level 5 % before Holm's correction.",
        "Estimated from the variances of these runs, roughly if there are few seeds; see docs/statistics.md.",
    ]
    if any(record["seed sd"] is None for record in records):
        caption.append(
            "Where the seed sd is unknown, a method has one seed: only problems can be planned, to detect a difference "
            "between these policies, not between methods. Train two or more seeds to plan seeds."
        )
    return Table("power", "Seeds and problems needed", pd.DataFrame(records, columns=columns), (), None, tuple(caption))


def _record(row: Row, base: Row, metric: str, difference: float) -> dict[str, object]:
    values, base_values = row.values(metric), base.values(metric)
    assert values is not None
    assert base_values is not None
    policies = (row.run.is_model, base.run.is_model)
    components = power.estimate_components(values, base_values, policies=policies)
    problems = values.shape[1]
    seeds = max(len(values), len(base_values))
    detectable = power.detectable_difference(components, seeds, problems)
    record: dict[str, object] = {
        "method": row.name,
        "task": row.task,
        "split": row.split,
        "metric": metric,
        "seeds": len(values),
        "problems": problems,
        "shown now": f"{detectable:.3f}",
        "problem sd": f"{components.problem**0.5:.3g}",
        "seed sd": None if components.seed is None else f"{components.seed**0.5:.3g}",
        "interaction sd": None if components.seed is None else f"{components.interaction**0.5:.3g}",
        "problems needed": _format(power.needed_problems(components, difference, seeds), power.MAX_PROBLEMS),
    }
    for name, count in [("problems at hand", problems), *((f"{count} problems", count) for count in PROBLEMS)]:
        record[f"seeds needed, {name}"] = (
            "unknown"
            if components.seed is None
            else _format(power.needed_seeds(components, difference, count), power.MAX_SEEDS)
        )
    return record


def _format(count: int | None, most: int) -> str:
    return f"more than {most}" if count is None else str(count)
