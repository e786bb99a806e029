"""Means, differences to a baseline and the significantly best row among rows of one task and split."""

from __future__ import annotations

from collections.abc import Sequence

from progrpo_cli.evaluation.scores_file import N_DEPENDENT_METRICS
from progrpo_cli.metrics.bootstrap import Bounds, CrossedResult, Interval, crossed_bootstrap, metric_bounds
from progrpo_cli.metrics.passk import Floats
from progrpo_cli.reporting.analysis.dataset import Row

PARTS = ("", "_low", "_high")
DIFFERENCE_PARTS = ("_diff", "_diff_low", "_diff_high", "_diff_p", "_diff_p_holm")


def group_by_split(rows: Sequence[Row]) -> list[list[Row]]:
    """Group rows by task and split, in their order."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.split), []).append(row)
    return list(groups.values())


def preferred_splits(rows: Sequence[Row]) -> list[list[Row]]:
    """For each task the rows of its test split, or of its first split if there is no test split."""
    by_task: dict[str, list[Row]] = {}
    for group in group_by_split(rows):  # test comes first
        by_task.setdefault(group[0].task, group)
    return list(by_task.values())


def compare(rows: Sequence[Row], metric: str, baseline: str | None) -> dict[str, CrossedResult]:
    """Row name -> mean and difference to the baseline, for rows of one task and split that have the metric.

    Rows are resampled together and paired with the baseline only if they were measured and sampled in the same way. A
    row without such a row of the baseline has no difference, and neither has the baseline itself.
    """
    results: dict[str, CrossedResult] = {}
    for group in comparable_groups(rows, metric):
        values = {row.name: array for row in group if (array := row.values(metric)) is not None}
        by_baseline: dict[str | None, list[str]] = {}
        for row in (row for row in group if row.name in values):
            base = find_baseline_row(row, group, baseline)
            base_name = base.name if base is not None and base.name in values else None
            by_baseline.setdefault(base_name, []).append(row.name)
        for base_name, names in by_baseline.items():
            together = {name: array for name, array in values.items() if name == base_name or name in names}
            crossed = crossed_bootstrap(
                together, bounds=_bounds(group, metric), baseline=base_name, policies=_model_names(group)
            )
            results.update({name: crossed[name] for name in names})
    return {row.name: results[row.name] for row in rows if row.name in results}


def find_baseline_row(row: Row, rows: Sequence[Row], baseline: str | None) -> Row | None:
    """The baseline's row that was measured and sampled like ``row``."""
    return next((other for other in rows if other.label == baseline and other.key == row.key), None)


def pass_at_k_curves(rows: Sequence[Row], ks: Sequence[int]) -> dict[int, dict[str, Interval]]:
    """k -> row name -> Pass@k with its interval, for rows of one task and split."""
    return {k: {name: result.mean for name, result in compare(rows, f"pass@{k}", None).items()} for k in ks}


def comparable_groups(rows: Sequence[Row], metric: str = "") -> list[list[Row]]:
    """Group rows of one task and split that were measured and sampled in the same way.

    Args:
        metric: if it depends on n, rows of a group also have equal n.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.key, row.n if metric in N_DEPENDENT_METRICS else 0), []).append(row)
    return list(groups.values())


def significant_winner(rows: Sequence[Row], metric: str) -> str | None:
    """The name of the row with the highest mean, if the paired interval of its lead over the second excludes 0.

    None also if one of the two is a method with one seed: methods are not tested then.

    Args:
        rows: measured and sampled in the same way, see :func:`comparable_groups`.
        metric: the metric to compare.
    """
    values = {row.name: (row, array) for row in rows if (array := row.values(metric)) is not None}
    ranked = sorted(values, key=lambda name: float(values[name][1].mean()), reverse=True)
    if len(ranked) < 2:
        return None
    (first, first_values), (second, second_values) = (values[name] for name in ranked[:2])
    groups: dict[str, Floats] = {second.name: second_values, first.name: first_values}
    bounds, policies = _bounds([row for row, _ in values.values()], metric), _model_names([first, second])
    lead = crossed_bootstrap(groups, bounds=bounds, baseline=second.name, policies=policies)[first.name]
    return first.name if lead.p is not None and lead.difference is not None and lead.difference.low > 0 else None


def has_single_seed(rows: Sequence[Row]) -> bool:
    """Whether a trained method among the rows has one seed and therefore cannot be tested."""
    return any(len(row.evaluations) == 1 and not row.run.is_model for row in rows)


def _model_names(rows: Sequence[Row]) -> set[str]:
    """The names of rows that are one given policy, which no run trained."""
    return {row.name for row in rows if row.run.is_model}


def _bounds(rows: Sequence[Row], metric: str) -> Bounds | None:
    """The smallest and largest possible value of one problem."""
    return metric_bounds(metric, max(e.n for row in rows for e in row.evaluations))
