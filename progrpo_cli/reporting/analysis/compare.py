"""The numbers of a column: means with intervals, differences to a baseline, and which row is best beyond doubt."""

from __future__ import annotations

from collections.abc import Sequence

from progrpo_cli.evaluation.scores_file import N_DEPENDENT_METRICS
from progrpo_cli.metrics.bootstrap import Bounds, CrossedResult, Interval, crossed_bootstrap, metric_bounds
from progrpo_cli.metrics.passk import Floats
from progrpo_cli.reporting.analysis.dataset import Row

PARTS = ("", "_low", "_high")
DIFFERENCE_PARTS = ("_diff", "_diff_low", "_diff_high", "_diff_p", "_diff_p_holm")


def group_by_split(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each task and split, in their order."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.task, row.split), []).append(row)
    return list(grouped.values())


def preferred_splits(rows: Sequence[Row]) -> list[list[Row]]:
    """For each task the rows of its test split, or of whatever split there is."""
    by_task: dict[str, list[Row]] = {}
    for column in group_by_split(rows):  # test comes first
        by_task.setdefault(column[0].task, column)
    return list(by_task.values())


def compare(rows: Sequence[Row], metric: str, baseline: str | None) -> dict[str, CrossedResult]:
    """Row name -> its numbers, for the rows of one task and split that have the metric.

    Only rows that were measured and sampled alike are resampled together and paired with the baseline: where there is
    no such row of the baseline there is no difference. Nor has a row of the baseline one.
    """
    found: dict[str, CrossedResult] = {}
    for same in alike(rows, metric):
        groups = {row.name: values for row in same if (values := row.values(metric)) is not None}
        compared_to: dict[str | None, list[str]] = {}
        for row in (row for row in same if row.name in groups):
            base = find_baseline_row(row, same, baseline)
            name = base.name if base is not None and base.name in groups else None
            compared_to.setdefault(name, []).append(row.name)
        for to, names in compared_to.items():
            together = {name: values for name, values in groups.items() if name == to or name in names}
            results = crossed_bootstrap(together, bounds=_bounds(same, metric), baseline=to, policies=_policies(same))
            found.update({name: results[name] for name in names})
    return {row.name: found[row.name] for row in rows if row.name in found}


def find_baseline_row(row: Row, rows: Sequence[Row], baseline: str | None) -> Row | None:
    """The row of the baseline that a row's difference is taken to: the one that was measured and sampled alike."""
    return next((each for each in rows if each.label == baseline and each.key == row.key), None)


def curve(rows: Sequence[Row], ks: Sequence[int]) -> dict[int, dict[str, Interval]]:
    """For each k the Pass@k of each row of one task and split with its interval."""
    return {k: {name: c.mean for name, c in compare(rows, f"pass@{k}", None).items()} for k in ks}


def alike(rows: Sequence[Row], metric: str = "") -> list[list[Row]]:
    """The rows of one task and split by what may be set against each other: measured, sampled alike.

    Args:
        metric: one that depends on n asks for equal n, too.
    """
    grouped: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.key, row.n if metric in N_DEPENDENT_METRICS else 0), []).append(row)
    return list(grouped.values())


def significant_winner(rows: Sequence[Row], metric: str) -> str | None:
    """The name of the row with the highest mean, if the paired interval of its lead over the next one excludes 0.

    None where one of the two is a method with one seed: nothing is tested about methods then.

    Args:
        rows: measured and sampled alike, see :func:`alike`.
        metric: what is compared.
    """
    values = {row.name: (row, found) for row in rows if (found := row.values(metric)) is not None}
    ranked = sorted(values, key=lambda name: float(values[name][1].mean()), reverse=True)
    if len(ranked) < 2:
        return None
    (first, of_first), (second, of_second) = (values[name] for name in ranked[:2])
    groups: dict[str, Floats] = {second.name: of_second, first.name: of_first}
    limits, policies = _bounds([row for row, _ in values.values()], metric), _policies([first, second])
    lead = crossed_bootstrap(groups, bounds=limits, baseline=second.name, policies=policies)[first.name]
    return first.name if lead.p is not None and lead.difference is not None and lead.difference.low > 0 else None


def one_seed(rows: Sequence[Row]) -> bool:
    """Whether a trained method among the rows has one seed: nothing is tested about it."""
    return any(len(row.evaluations) == 1 and not row.run.is_model for row in rows)


def _policies(rows: Sequence[Row]) -> set[str]:
    """The names of rows that are one given policy each: models that no run of ours trained."""
    return {row.name for row in rows if row.run.is_model}


def _bounds(rows: Sequence[Row], metric: str) -> Bounds | None:
    """What a problem's value cannot leave."""
    return metric_bounds(metric, max(e.n for row in rows for e in row.evaluations))
