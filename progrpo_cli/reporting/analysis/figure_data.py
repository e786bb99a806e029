"""The data of the figures as tidy frames: exactly what is drawn is also written as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pandas as pd

from progrpo_cli.metrics.frontier import hull
from progrpo_cli.reporting.analysis.ablations import swept_key
from progrpo_cli.reporting.analysis.compare import compare, has_single_seed, pass_at_k_curves, preferred_splits
from progrpo_cli.reporting.analysis.dataset import Dataset, Row
from progrpo_cli.reporting.analysis.frontier import FrontierComparison
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.reading.record import method_of_curve

MAX_LINES = 8
"""More lines in one figure could not be distinguished."""

MAX_POINTS = 250
"""Longer curves are thinned evenly to at most this many points, the last point included."""


def select_rows(dataset: Dataset, baseline: str | None, passes: Sequence[str]) -> tuple[list[list[Row]], str]:
    """Select the rows to draw for each task: all, or the base, the baseline and the best ones.

    Args:
        passes: the report's Pass@k, ascending. Rows are ranked by the largest that the task's rows have, because
            another task's k may be above their n.

    Returns:
        The rows of each task, and sentences about rows that are not drawn.
    """
    selected, left_out = [], []
    for all_rows in preferred_splits(dataset.rows):
        rows = _at_training_temperatures(all_rows)
        if len(rows) < len(all_rows):
            left_out.append(
                f" {rows[0].task}: {len(all_rows) - len(rows)} rows (greedy, or the base at a temperature without "
                "trained policies) are not drawn as lines; main.csv has them."
            )
        if len(rows) > MAX_LINES:
            metric = _ranking_metric(rows, passes)
            means = {row.name: values.mean() for row in rows if (values := row.values(metric)) is not None}
            always = [row.name for row in rows if row.is_base or row.label == baseline]
            others = [row.name for row in rows if row.name not in always]
            others.sort(key=lambda name: means.get(name, -np.inf), reverse=True)
            ranked = [*always, *others]
            lower = sum(name in means for name in ranked[MAX_LINES:])
            without = len(ranked) - MAX_LINES - lower
            counts = ((lower, f"with a lower {metric}"), (without, f"without {metric}"))
            described = " and ".join(f"{count} rows {reason}" for count, reason in counts if count)
            left_out.append(f" {rows[0].task}: {described} are not drawn; main.csv has them.")
            rows = [row for row in rows if row.name in ranked[:MAX_LINES]]
        selected.append(rows)
    return selected, "".join(left_out)


def one_seed_note(groups: Sequence[Sequence[Row]]) -> str:
    """A sentence for captions if a method has one seed; else empty."""
    if not has_single_seed([row for rows in groups for row in rows]):
        return ""
    return " A method with one seed is shown as one policy; methods are not tested here."


def pass_at_k(groups: Sequence[Sequence[Row]]) -> pd.DataFrame:
    """Pass@k over k with 95 % intervals.

    Args:
        groups: the rows of each task.
    """
    records: list[dict[str, object]] = []
    for rows in groups:
        n = min(row.n for row in rows)
        ks = sorted({*(round(2 ** (i / 2)) for i in range(2 * int(np.log2(n)) + 1)), n})
        records += [
            {
                **_row_fields(row),
                "k": k,
                "value": intervals[row.name].value,
                "low": intervals[row.name].low,
                "high": intervals[row.name].high,
            }
            for k, intervals in pass_at_k_curves(rows, ks).items()
            for row in rows
        ]
    return pd.DataFrame(records)


def over_steps(groups: Sequence[Sequence[Row]], metric: str) -> pd.DataFrame:
    """A logged metric over training steps: mean and range over seeds, at the steps that all seeds have."""
    seeds: dict[str, dict[str, pd.Series[float]]] = {}
    for row in (row for rows in groups for row in rows if not row.run.is_model):
        for e in row.evaluations:
            curves = e.run.record.curves
            if metric in curves.values:
                series = pd.Series(curves.values[metric], index=curves.steps).dropna()
                if len(series):
                    seeds.setdefault(row.name, {})[e.run.record.id] = series
    frames = []
    for name, by_run in seeds.items():
        steps = reduce(np.intersect1d, [series.index.to_numpy() for series in by_run.values()])
        steps = steps[:: -max(1, -(-len(steps) // MAX_POINTS))][::-1]
        values = np.stack([series.loc[steps].to_numpy() for series in by_run.values()])
        if values.size:
            frames.append(
                pd.DataFrame(
                    {
                        "metric": metric,
                        "method": name,
                        "step": steps,
                        "value": values.mean(axis=0),
                        "low": values.min(axis=0),
                        "high": values.max(axis=0),
                        "seeds": len(by_run),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def method_curves(groups: Sequence[Sequence[Row]]) -> dict[str, pd.DataFrame]:
    """Method (or ``arm``) -> :func:`over_steps` of all curves that it declared and logged."""
    runs = [e.run for rows in groups for row in rows for e in row.evaluations]
    frames: dict[str, list[pd.DataFrame]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.record.curves.values):
        if (method := method_of_curve(name)) is not None and len(data := over_steps(groups, name)):
            frames.setdefault(method, []).append(data)
    return {method: pd.concat(curves, ignore_index=True) for method, curves in frames.items()}


def plane(groups: Sequence[Sequence[Row]], last: str, comparisons: Sequence[FrontierComparison] = ()) -> pd.DataFrame:
    """Pass@1 against ``last`` of the drawn rows and of the base at all its temperatures.

    Column ``line`` names the line that a temperature of the base is a corner of (see
    :mod:`progrpo_cli.metrics.frontier`); it is empty for other rows. Greedy rows have no Pass@k and are left out.
    """
    first = "pass@1"
    records: list[dict[str, object]] = []
    for group in groups:
        here = [item for item in comparisons if (item.row.task, item.row.split) == (group[0].task, group[0].split)]
        lines = {tuple(row.name for row in item.temperatures): item.temperatures for item in here}.values()
        rows = {row.name: row for row in (*group, *(row for temperatures in lines for row in temperatures))}
        x, y = (compare(list(rows.values()), metric, None) for metric in (first, last))
        drawn = {name: row for name, row in rows.items() if name in x and name in y}
        corners: dict[str, str] = {}
        for temperatures in lines:
            names = [row.name for row in temperatures if row.name in drawn]
            means = (np.array([results[name].mean.value for name in names]) for results in (x, y))
            top_p = min(row.key.sampling.top_p for row in temperatures)
            label = f"{temperatures[0].label}'s temperatures" + (f", top-p {top_p:g}" if top_p < 1 else "")
            corners |= {names[index]: label for index in hull(*means)}
        for name, row in drawn.items():
            across, up = x[name].mean, y[name].mean
            records.append(
                {
                    **_row_fields(row),
                    **{first: across.value, f"{first}_low": across.low, f"{first}_high": across.high},
                    **{last: up.value, f"{last}_low": up.low, f"{last}_high": up.high},
                    "temperature": row.key.sampling.temperature,
                    "line": corners.get(name),
                }
            )
    return pd.DataFrame(records)


def ablation(table: Table, main: Table) -> pd.DataFrame:
    """The first and last Pass@k over a numeric swept key, one row per point; the baseline's value of the key is empty.

    Each task is represented by its test split, or by its first split if there is no test split. The frame is empty if
    the key is not numeric.
    """
    key = swept_key(table)
    numeric = [isinstance(value, int | float) and not isinstance(value, bool) for value in table.frame[key]]
    passes = [metric for metric in table.metrics if metric.startswith("pass@")]
    if not all(numeric) or not np.isfinite(table.frame[key].astype(float)).all() or not passes:
        return pd.DataFrame()
    frames = []
    for task, task_frame in table.frame.groupby("task", sort=False):
        split = "test" if (task_frame["split"] == "test").any() else task_frame["split"].iloc[0]
        panel = task_frame[task_frame["split"] == split]
        if panel[key].nunique() < 2:
            continue
        same = (main.frame["method"] == main.baseline) & (main.frame["task"] == task) & (main.frame["split"] == split)
        both = pd.concat([panel, main.frame[same].assign(held="")], ignore_index=True)
        frames += [
            pd.DataFrame(
                {
                    **{name: both[name] for name in ("task", "split", "problems", "n", "seeds", "method", "held", key)},
                    "metric": metric,
                    "value": both[metric],
                    "low": both[f"{metric}_low"],
                    "high": both[f"{metric}_high"],
                }
            ).dropna(subset=["value"])
            for metric in dict.fromkeys([passes[0], passes[-1]])
        ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _at_training_temperatures(rows: Sequence[Row]) -> list[Row]:
    """Drop greedy rows and the base at temperatures without trained policies, unless no row would remain."""
    trained = {row.key.sampling for row in rows if not row.run.is_model}
    kept = [
        row
        for row in rows
        if row.key.sampling.temperature > 0 and (not row.is_base or not trained or row.key.sampling in trained)
    ]
    return kept or list(rows)


def _ranking_metric(rows: Sequence[Row], passes: Sequence[str]) -> str:
    """The largest Pass@k that all rows have, or that any row has, or Pass@1, which needs one sample."""
    for enough in (all, any):
        for metric in reversed(passes):
            if enough(row.values(metric) is not None for row in rows):
                return metric
    return "pass@1"


def _row_fields(row: Row) -> dict[str, object]:
    first = row.evaluations[0]
    return {
        "task": first.task,
        "split": first.split,
        "problems": len(first.problem_ids),
        "n": row.n,
        "method": row.name,
        "seeds": len(row.evaluations),
    }
