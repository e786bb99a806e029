"""Methods x tasks: the table that goes into a paper."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.methods.registry import SHARED_RECIPE
from progrpo_cli.metrics.bootstrap import CrossedResult, p_value_method
from progrpo_cli.metrics.holm import holm
from progrpo_cli.reporting.analysis import budgets
from progrpo_cli.reporting.analysis.caption import caption
from progrpo_cli.reporting.analysis.compare import (
    DIFFERENCE_PARTS,
    PARTS,
    alike,
    compare,
    find_baseline_row,
    group_by_split,
    significant_winner,
)
from progrpo_cli.reporting.analysis.dataset import Dataset, Row
from progrpo_cli.reporting.analysis.labels import BASE
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns

UNRANKED_METRICS = ("entropy",)
"""Metrics of which more is not better as such: none of their cells is in bold, and they are not tested."""


def choose_ks(rows: Sequence[Row], asked: Sequence[int] | None, loaded: LoadedRuns) -> list[int]:
    """The k of Pass@k to report, ascending: those asked for, else those that the evaluations were scored with, else 1.

    Raises:
        RequestError: a k below 1, or above every n of some task and split.
    """
    if asked is None:
        if ks := sorted({k for row in rows for e in row.evaluations for k in e.ks}):
            return ks
        first = rows[0].evaluations[0]
        loaded.note(
            f"pass@1 alone is reported: no scores name a k up to their n; the first are {first.run.record.path}: "
            f"scores/{first.key} of {first.run.record.name}"
        )
        return [1]
    for k in asked:
        if k < 1:
            raise RequestError(f"--k {k}: k must be at least 1")
        for column in group_by_split(rows):
            n, fewest = max(row.n for row in column), min(row.n for row in column)
            where = f"{column[0].task} ({column[0].split})"
            if k > n:
                raise RequestError(f"--k {k} needs n >= {k} samples a problem; {where} has n = {n}")
            if k > fewest:
                loaded.note(f"{where}: rows with fewer than {k} samples a problem have no pass@{k}")
    return sorted(set(asked))


def choose_baseline(rows: Sequence[Row], asked: str | None, loaded: LoadedRuns) -> str | None:
    """The label of the row that differences are taken to; a method's name will do where it has one row.

    Raises:
        RequestError: the baseline asked for is not there, or is a method of several configurations.
    """
    row_labels = {row.label for row in rows}
    name = asked or SHARED_RECIPE
    if name in row_labels:
        return name
    of_method = sorted({row.label for row in rows if row.run.method == name})
    if len(of_method) == 1:
        return of_method[0]
    if len(of_method) > 1:
        described = f"{name} has several configurations ({'; '.join(of_method)})"
        if asked is not None:
            raise RequestError(f"--baseline {name}: {described}; name one of them in full")
        loaded.note(f"no differences to a baseline: {described}; name one of them in full with --baseline")
    elif asked is not None:
        raise RequestError(f"unknown baseline {asked!r}{nearest(asked, row_labels)}")
    return None


def report_metrics(rows: Sequence[Row], ks: Sequence[int]) -> list[str]:
    """The metrics that a report has columns for."""
    measured = [m for m in ("entropy", "distinct_correct") if any(row.values(m) is not None for row in rows)]
    return [*(f"pass@{k}" for k in ks), *measured]


def main_table(frame: Dataset, loaded: LoadedRuns, *, ks: Sequence[int], baseline: str | None) -> Table:
    """A row a method (with the settings that differ), task and split.

    All rows of a task and split share one draw of problems, so their differences to the baseline are paired.
    """
    metrics = report_metrics(frame.rows, ks)
    records: list[dict[str, object]] = []
    best: set[tuple[int, str]] = set()
    for rows in group_by_split(frame.rows):
        compared = {metric: compare(rows, metric, baseline) for metric in metrics}
        adjusted = _adjusted(compared)
        for metric in metrics:
            groups = [] if metric in UNRANKED_METRICS else alike(rows, metric)
            winners = {significant_winner(group, metric) for group in groups}
            best.update((len(records) + number, metric) for number, row in enumerate(rows) if row.name in winners)
        for row in rows:
            base = find_baseline_row(row, rows, baseline)
            record = {**_described(row), "baseline": baseline if base is None else base.name}
            for metric in metrics:
                if row.name in compared[metric]:
                    record.update(_cells(metric, compared[metric][row.name], adjusted.get((metric, row.name))))
            records.append(record)
    names = [f"{metric}{part}" for metric in metrics for part in (*PARTS, *DIFFERENCE_PARTS)]
    columns = ["method", "task", "split", "seeds", "problems", "n", "temperature", *budgets.COLUMNS, "baseline", *names]
    table = budgets.keep_integers(pd.DataFrame(records, columns=columns), records)
    sentences = [*caption(frame.rows, loaded), *_about_base(frame.rows)]
    if best:
        sentences.append("Bold: the best of its task and split whose paired 95 % interval over the next excludes 0.")
    if baseline is not None:
        tested = any(record.get(f"{metric}_diff_p") is not None for record in records for metric in metrics)
        sentences += _about_differences(baseline, metrics, tested=tested)
        if any(row.brackets for row in frame.rows):
            sentences.append(f"A row is only set against the row of {baseline} that was measured and sampled alike.")
    return Table("main", "Methods and tasks", table, tuple(metrics), baseline, tuple(sentences), frozenset(best))


def _adjusted(compared: dict[str, dict[str, CrossedResult]]) -> dict[tuple[str, str], float]:
    """Holm over the family of one task and split: every row, every metric that is tested."""
    return holm(
        {
            (metric, name): result.p
            for metric, of_rows in compared.items()
            if metric not in UNRANKED_METRICS
            for name, result in of_rows.items()
            if result.p is not None
        }
    )


def _about_differences(baseline: str, metrics: Sequence[str], *, tested: bool) -> list[str]:
    paired = f"Differences: row minus {baseline}, paired over problems."
    if not tested:
        return [paired]
    names = ", ".join(metric for metric in metrics if metric not in UNRANKED_METRICS)
    return [
        paired,
        f"p: {p_value_method()}; corrected by Holm over the family of all tested rows x {names} of a task and split. "
        "Entropy is not tested: more of it is neither better nor worse.",
    ]


def _cells(metric: str, result: CrossedResult, p_holm: float | None) -> dict[str, object]:
    cells: dict[str, object] = dict(
        zip((f"{metric}{part}" for part in PARTS), (result.mean.value, result.mean.low, result.mean.high), strict=True)
    )
    if (lead := result.difference) is not None:
        p = result.p if p_holm is not None else None
        numbers = (lead.value, lead.low, lead.high, p, p_holm)
        cells.update(zip((f"{metric}{part}" for part in DIFFERENCE_PARTS), numbers, strict=True))
    return cells


def _described(row: Row) -> dict[str, object]:
    first = row.evaluations[0]
    return {
        "method": row.name,
        "task": row.task,
        "split": row.split,
        "seeds": len(row.evaluations),
        "problems": len(first.problem_ids),
        "n": row.n,
        "temperature": row.key.sampling.temperature,
        **budgets.mean_budget(row),
    }


def _about_base(rows: Sequence[Row]) -> list[str]:
    models = {row.run.identity.model for row in rows if row.label == BASE}
    return [f"base: {model}, the policy that training started from." for model in sorted(models)]
