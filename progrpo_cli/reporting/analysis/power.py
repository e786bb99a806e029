"""How many seeds and problems would show a difference: the table of ``progrpo report --power``."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from progrpo_cli.metrics import power
from progrpo_cli.reporting.analysis.compare import find_baseline_row, group_by_split
from progrpo_cli.reporting.analysis.dataset import Row
from progrpo_cli.reporting.analysis.main_table import UNRANKED_METRICS
from progrpo_cli.reporting.analysis.table import Table

PROBLEMS = (300, 1000)
"""Besides the problems at hand."""


def power_table(rows: Sequence[Row], metrics: Sequence[str], baseline: str | None, difference: float) -> Table:
    """A row a method, task, split and tested metric against the baseline; no rows where there is no baseline.

    Args:
        difference: what is to be shown, in the unit of each metric.
    """
    records = [
        _record(row, base, metric, difference)
        for column in group_by_split(rows)
        for row in column
        if (base := find_baseline_row(row, column, baseline)) is not None and base.name != row.name
        for metric in metrics
        if metric not in UNRANKED_METRICS and row.values(metric) is not None and base.values(metric) is not None
    ]
    columns = list(records[0]) if records else ["method", "task", "split", "metric"]
    caption = [
        f"How many seeds a method, or problems, would show a difference of {difference:g} to "
        f"{baseline or 'a baseline (there is none here)'} with 80 %, in a test at 5 % before Holm's correction.",
        "From the variances of the runs at hand, which few seeds tell roughly; the formula is in docs/statistics.md.",
    ]
    if any(record["seed sd"] is None for record in records):
        caption.append(
            "Where the seed sd is unknown, a method has one seed: only problems can be planned, and they show a "
            "difference of these policies, not of methods. Train two seeds or more to plan seeds."
        )
    return Table("power", "Seeds and problems needed", pd.DataFrame(records, columns=columns), (), None, tuple(caption))


def _record(row: Row, base: Row, metric: str, difference: float) -> dict[str, object]:
    values, of_base = row.values(metric), base.values(metric)
    assert values is not None
    assert of_base is not None
    given = (row.run.is_model, base.run.is_model)
    found = power.estimate_components(values, of_base, policies=given)
    problems = values.shape[1]
    seeds = max(len(values), len(of_base))
    least = power.detectable_difference(found, seeds, problems)
    record: dict[str, object] = {
        "method": row.name,
        "task": row.task,
        "split": row.split,
        "metric": metric,
        "seeds": len(values),
        "problems": problems,
        "shown now": f"{least:.3f}",
        "problem sd": f"{found.problem**0.5:.3g}",
        "seed sd": None if found.seed is None else f"{found.seed**0.5:.3g}",
        "interaction sd": None if found.seed is None else f"{found.both**0.5:.3g}",
        "problems needed": _shown(power.needed_problems(found, difference, seeds), power.MAX_PROBLEMS),
    }
    for name, count in [("problems at hand", problems), *((f"{count} problems", count) for count in PROBLEMS)]:
        needed = None if found.seed is None else _shown(power.needed_seeds(found, difference, count), power.MAX_SEEDS)
        record[f"seeds needed, {name}"] = "unknown" if needed is None else needed
    return record


def _shown(count: int | None, most: int) -> str:
    return f"more than {most}" if count is None else str(count)
