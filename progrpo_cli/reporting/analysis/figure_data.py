"""The numbers behind each figure, as tidy frames: what is drawn is exactly what is written beside it as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pandas as pd

from progrpo_cli.metrics.frontier import hull
from progrpo_cli.reporting.analysis.ablations import swept_key
from progrpo_cli.reporting.analysis.compare import compare, curve, one_seed, preferred_splits
from progrpo_cli.reporting.analysis.dataset import Dataset, Row
from progrpo_cli.reporting.analysis.frontier import FrontierComparison
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.reading.record import method_of_curve

MAX_LINES = 8
"""More lines cannot be told from each other."""

MAX_POINTS = 250
"""More points over steps than a column has room for are thinned out, evenly and the last one kept."""


def select_rows(frame: Dataset, baseline: str | None, passes: Sequence[str]) -> tuple[list[list[Row]], str]:
    """For each task the rows that figures draw: all, or the base, the baseline and the best; and, in words, the others.

    Args:
        passes: the report's Pass@k, ascending. The best go by the largest that the task's rows have: another task's may
            be above their n.
    """
    chosen, left_out = [], []
    for every in preferred_splits(frame.rows):
        rows = _at_temperatures_of_training(every)
        if len(rows) < len(every):
            left_out.append(
                f" {rows[0].task}: {len(every) - len(rows)} rows, greedy or the base at a temperature that nothing "
                "trained was evaluated at, are not drawn as lines; main.csv has them."
            )
        if len(rows) > MAX_LINES:
            metric = _ranking(rows, passes)
            means = {row.name: found.mean() for row in rows if (found := row.values(metric)) is not None}
            fixed = [row.name for row in rows if row.is_base or row.label == baseline]
            rest = [row.name for row in rows if row.name not in fixed]
            rest.sort(key=lambda name: means.get(name, -np.inf), reverse=True)
            order = [*fixed, *rest]
            lower = sum(name in means for name in order[MAX_LINES:])
            without = len(order) - MAX_LINES - lower
            counts = ((lower, f"with a lower {metric}"), (without, f"without {metric}"))
            described = " and ".join(f"{count} rows {which}" for count, which in counts if count)
            left_out.append(f" {rows[0].task}: {described} are not drawn; main.csv has them.")
            rows = [row for row in rows if row.name in order[:MAX_LINES]]
        chosen.append(rows)
    return chosen, "".join(left_out)


def one_seed_note(columns: Sequence[Sequence[Row]]) -> str:
    """What a figure's caption says where a method has one seed; else nothing."""
    if not one_seed([row for rows in columns for row in rows]):
        return ""
    return " Where a method has one seed it is one policy: nothing here is tested about methods."


def pass_at_k(columns: Sequence[Sequence[Row]]) -> pd.DataFrame:
    """Pass@k over k, with 95 % intervals."""
    records: list[dict[str, object]] = []
    for rows in columns:
        n = min(row.n for row in rows)
        ks = sorted({*(round(2 ** (i / 2)) for i in range(2 * int(np.log2(n)) + 1)), n})
        records += [
            {
                **_about(row),
                "k": k,
                "value": of[row.name].value,
                "low": of[row.name].low,
                "high": of[row.name].high,
            }
            for k, of in curve(rows, ks).items()
            for row in rows
        ]
    return pd.DataFrame(records)


def over_steps(columns: Sequence[Sequence[Row]], metric: str) -> pd.DataFrame:
    """A logged metric over training steps: the mean and the range over the seeds at the steps that all of them have."""
    seeds: dict[str, dict[str, pd.Series[float]]] = {}
    for row in (row for rows in columns for row in rows if not row.run.is_model):
        for e in row.evaluations:
            curves = e.run.record.curves
            if metric in curves.values:
                series = pd.Series(curves.values[metric], index=curves.steps).dropna()
                if len(series):
                    seeds.setdefault(row.name, {})[e.run.record.id] = series
    frames = []
    for name, of_runs in seeds.items():
        steps = reduce(np.intersect1d, [series.index.to_numpy() for series in of_runs.values()])
        steps = steps[:: -max(1, -(-len(steps) // MAX_POINTS))][::-1]
        values = np.stack([series.loc[steps].to_numpy() for series in of_runs.values()])
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
                        "seeds": len(of_runs),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def method_curves(columns: Sequence[Sequence[Row]]) -> dict[str, pd.DataFrame]:
    """For each method (or ``arm``) that declared curves: :func:`over_steps` of all of them that were logged."""
    runs = [e.run for rows in columns for row in rows for e in row.evaluations]
    frames: dict[str, list[pd.DataFrame]] = {}
    for name in dict.fromkeys(name for run in runs for name in run.record.curves.values):
        if (method := method_of_curve(name)) is not None and len(data := over_steps(columns, name)):
            frames.setdefault(method, []).append(data)
    return {method: pd.concat(of_method, ignore_index=True) for method, of_method in frames.items()}


def plane(columns: Sequence[Sequence[Row]], last: str, compared: Sequence[FrontierComparison] = ()) -> pd.DataFrame:
    """Pass@1 against Pass@k of the rows that are drawn and of the base at all its temperatures.

    Column ``line`` names the line that a temperature of the base is on, see :mod:`progrpo_cli.metrics.frontier`; of
    temperatures below the line and of all other rows it is empty. Greedy rows have no Pass@k and are not there.
    """
    first = "pass@1"
    records: list[dict[str, object]] = []
    for column in columns:
        here = [each for each in compared if (each.row.task, each.row.split) == (column[0].task, column[0].split)]
        lines = {tuple(row.name for row in each.temperatures): each.temperatures for each in here}.values()
        rows = {row.name: row for row in (*column, *(row for temperatures in lines for row in temperatures))}
        x, y = (compare(list(rows.values()), metric, None) for metric in (first, last))
        drawn = {name: row for name, row in rows.items() if name in x and name in y}
        corners: dict[str, str] = {}
        for temperatures in lines:
            names = [row.name for row in temperatures if row.name in drawn]
            means = (np.array([of[name].mean.value for name in names]) for of in (x, y))
            top_p = min(row.key.sampling.top_p for row in temperatures)
            label = f"{temperatures[0].label}'s temperatures" + (f", top-p {top_p:g}" if top_p < 1 else "")
            corners |= {names[place]: label for place in hull(*means)}
        for name, row in drawn.items():
            across, up = x[name].mean, y[name].mean
            records.append(
                {
                    **_about(row),
                    **{first: across.value, f"{first}_low": across.low, f"{first}_high": across.high},
                    **{last: up.value, f"{last}_low": up.low, f"{last}_high": up.high},
                    "temperature": row.key.sampling.temperature,
                    "line": corners.get(name),
                }
            )
    return pd.DataFrame(records)


def ablation(table: Table, main: Table) -> pd.DataFrame:
    """The first and last Pass@k over a numeric swept key, a row a point; the baseline has no value of the key.

    Of each task its test split, if there is one. Empty where the key is not numeric.
    """
    key = swept_key(table)
    numeric = [isinstance(value, int | float) and not isinstance(value, bool) for value in table.frame[key]]
    passes = [metric for metric in table.metrics if metric.startswith("pass@")]
    if not all(numeric) or not np.isfinite(table.frame[key].astype(float)).all() or not passes:
        return pd.DataFrame()
    frames = []
    for task, of_task in table.frame.groupby("task", sort=False):
        split = "test" if (of_task["split"] == "test").any() else of_task["split"].iloc[0]
        panel = of_task[of_task["split"] == split]
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


def _at_temperatures_of_training(rows: Sequence[Row]) -> list[Row]:
    """Without greedy rows, which have Pass@1 alone, and the base at temperatures of its own; all if none is left."""
    trained = {row.key.sampling for row in rows if not row.run.is_model}
    drawn = [
        row
        for row in rows
        if row.key.sampling.temperature > 0 and (not row.is_base or not trained or row.key.sampling in trained)
    ]
    return drawn or list(rows)


def _ranking(rows: Sequence[Row], passes: Sequence[str]) -> str:
    """The largest Pass@k that all rows have, else the largest that any has, else Pass@1, which needs one sample."""
    for enough in (all, any):
        for metric in reversed(passes):
            if enough(row.values(metric) is not None for row in rows):
                return metric
    return "pass@1"


def _about(row: Row) -> dict[str, object]:
    first = row.evaluations[0]
    return {
        "task": first.task,
        "split": first.split,
        "problems": len(first.problem_ids),
        "n": row.n,
        "method": row.name,
        "seeds": len(row.evaluations),
    }
