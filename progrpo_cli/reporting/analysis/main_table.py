"""The main table: methods x tasks."""

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
    comparable_groups,
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
"""Metrics for which more is neither better nor worse. They are not tested, and no cell is bold."""


def choose_ks(rows: Sequence[Row], requested: Sequence[int] | None, loaded: LoadedRuns) -> list[int]:
    """The k of Pass@k to report, ascending: the requested ones, or those of the evaluations, or 1.

    Raises:
        RequestError: a requested k is below 1, or above every n of some task and split.
    """
    if requested is None:
        if ks := sorted({k for row in rows for e in row.evaluations for k in e.ks}):
            return ks
        first = rows[0].evaluations[0]
        loaded.note(
            f"only pass@1 is reported: no scores have a k up to their n; the first are {first.run.record.path}: "
            f"scores/{first.key} of {first.run.record.name}"
        )
        return [1]
    for k in requested:
        if k < 1:
            raise RequestError(f"--k {k}: k must be at least 1")
        for group in group_by_split(rows):
            largest_n, smallest_n = max(row.n for row in group), min(row.n for row in group)
            where = f"{group[0].task} ({group[0].split})"
            if k > largest_n:
                raise RequestError(f"--k {k} needs n >= {k} samples per problem; {where} has n = {largest_n}")
            if k > smallest_n:
                loaded.note(f"{where}: rows with fewer than {k} samples per problem have no pass@{k}")
    return sorted(set(requested))


def choose_baseline(rows: Sequence[Row], requested: str | None, loaded: LoadedRuns) -> str | None:
    """The label of the baseline row; the name of a method suffices if it has one configuration.

    Raises:
        RequestError: the requested baseline does not exist or has several configurations.
    """
    labels = {row.label for row in rows}
    name = requested or SHARED_RECIPE
    if name in labels:
        return name
    configurations = sorted({row.label for row in rows if row.run.method == name})
    if len(configurations) == 1:
        return configurations[0]
    if len(configurations) > 1:
        described = f"{name} has several configurations ({'; '.join(configurations)})"
        if requested is not None:
            raise RequestError(f"--baseline {name}: {described}; name one of them in full")
        loaded.note(f"no differences to a baseline: {described}; name one of them in full with --baseline")
    elif requested is not None:
        raise RequestError(f"unknown baseline {requested!r}{nearest(requested, labels)}")
    return None


def report_metrics(rows: Sequence[Row], ks: Sequence[int]) -> list[str]:
    """The metrics that a report has columns for."""
    measured = [m for m in ("entropy", "distinct_correct") if any(row.values(m) is not None for row in rows)]
    return [*(f"pass@{k}" for k in ks), *measured]


def main_table(dataset: Dataset, loaded: LoadedRuns, *, ks: Sequence[int], baseline: str | None) -> Table:
    """One row per method (with the settings that differ), task and split.

    All rows of a task and split share one draw of problems, so their differences to the baseline are paired.
    """
    metrics = report_metrics(dataset.rows, ks)
    records: list[dict[str, object]] = []
    best: set[tuple[int, str]] = set()
    for rows in group_by_split(dataset.rows):
        compared = {metric: compare(rows, metric, baseline) for metric in metrics}
        adjusted = _adjust_p_values(compared)
        for metric in metrics:
            groups = [] if metric in UNRANKED_METRICS else comparable_groups(rows, metric)
            winners = {significant_winner(group, metric) for group in groups}
            best.update((len(records) + index, metric) for index, row in enumerate(rows) if row.name in winners)
        for row in rows:
            base = find_baseline_row(row, rows, baseline)
            record = {**_row_fields(row), "baseline": baseline if base is None else base.name}
            for metric in metrics:
                if row.name in compared[metric]:
                    record.update(_cells(metric, compared[metric][row.name], adjusted.get((metric, row.name))))
            records.append(record)
    names = [f"{metric}{part}" for metric in metrics for part in (*PARTS, *DIFFERENCE_PARTS)]
    columns = ["method", "task", "split", "seeds", "problems", "n", "temperature", *budgets.COLUMNS, "baseline", *names]
    table = budgets.keep_integers(pd.DataFrame(records, columns=columns), records)
    sentences = [*caption(dataset.rows, loaded), *_base_sentences(dataset.rows)]
    if best:
        sentences.append(
            "Bold: best of its task and split, with a paired 95 % interval over the second that excludes 0."
        )
    if baseline is not None:
        tested = any(record.get(f"{metric}_diff_p") is not None for record in records for metric in metrics)
        sentences += _difference_sentences(baseline, metrics, tested=tested)
        if any(row.brackets for row in dataset.rows):
            sentences.append(
                f"A row is compared only with the row of {baseline} that was measured and sampled in the same way."
            )
    return Table("main", "Methods and tasks", table, tuple(metrics), baseline, tuple(sentences), frozenset(best))


def _adjust_p_values(compared: dict[str, dict[str, CrossedResult]]) -> dict[tuple[str, str], float]:
    """Holm's correction over one task and split: all rows and all tested metrics."""
    return holm(
        {
            (metric, name): result.p
            for metric, results in compared.items()
            if metric not in UNRANKED_METRICS
            for name, result in results.items()
            if result.p is not None
        }
    )


def _difference_sentences(baseline: str, metrics: Sequence[str], *, tested: bool) -> list[str]:
    paired = f"Differences: row minus {baseline}, paired over problems."
    if not tested:
        return [paired]
    names = ", ".join(metric for metric in metrics if metric not in UNRANKED_METRICS)
    return [
        paired,
        f"p: {p_value_method()}; corrected by Holm's method over all tested rows x {names} of a task and split. "
        "Entropy is not tested, because more entropy is neither better nor worse.",
    ]


def _cells(metric: str, result: CrossedResult, p_holm: float | None) -> dict[str, object]:
    cells: dict[str, object] = dict(
        zip((f"{metric}{part}" for part in PARTS), (result.mean.value, result.mean.low, result.mean.high), strict=True)
    )
    if (difference := result.difference) is not None:
        p = result.p if p_holm is not None else None
        numbers = (difference.value, difference.low, difference.high, p, p_holm)
        cells.update(zip((f"{metric}{part}" for part in DIFFERENCE_PARTS), numbers, strict=True))
    return cells


def _row_fields(row: Row) -> dict[str, object]:
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


def _base_sentences(rows: Sequence[Row]) -> list[str]:
    models = {row.run.identity.model for row in rows if row.label == BASE}
    return [f"base: {model}, the policy that training started from." for model in sorted(models)]
