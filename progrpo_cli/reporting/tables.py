"""The tables of a report, as full frames with their captions; how they look is render.py's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.metrics.bootstrap import Interval, crossed, crossed_method
from progrpo_cli.metrics.passk import Floats
from progrpo_cli.reporting.frame import Frame, Row, comparable, differing_settings, shown
from progrpo_cli.reporting.sources import Found

DEFAULT_BASELINE = "grpo"
FEW_SEEDS = 5
"""Below this many the intervals are too narrow (see metrics/bootstrap.py), and captions say so."""


@dataclass(frozen=True)
class Table:
    """One table of a report."""

    name: str
    """Its file name without ending."""
    title: str
    frame: pd.DataFrame
    metrics: tuple[str, ...]
    """Columns of the frame that have ``<metric>_low`` and ``<metric>_high`` beside them."""
    baseline: str | None
    """``<metric>_diff``, ``_diff_low`` and ``_diff_high`` are differences to this row; None: there are none."""
    caption: tuple[str, ...]
    """What stands under it, a sentence each."""


def choose_ks(rows: Sequence[Row], asked: Sequence[int] | None) -> list[int]:
    """The k of Pass@k to report, ascending: those asked for, else those that the evaluations were scored with.

    Raises:
        RequestError: a k below 1, or above the n of some evaluation.
    """
    if asked is None:
        return sorted({k for row in rows for e in row.evaluations for k in e.ks})
    for k in asked:
        if k < 1:
            raise RequestError(f"--k {k}: k must be at least 1")
        for row in rows:
            n = row.evaluations[0].n
            if k > n:
                raise RequestError(f"--k {k} needs n >= {k} samples a problem; {row.task} ({row.split}) has n = {n}")
    return sorted(set(asked))


def choose_baseline(rows: Sequence[Row], asked: str | None, found: Found) -> str | None:
    """The label of the row that differences are taken to; a method's name will do where it has one row.

    Raises:
        RequestError: the baseline asked for is not there, or is a method of several configurations.
    """
    labels = {row.label for row in rows}
    name = asked or DEFAULT_BASELINE
    if name in labels:
        return name
    of_method = sorted({row.label for row in rows if row.run.method == name})
    if len(of_method) == 1:
        return of_method[0]
    if len(of_method) > 1:
        described = f"{name} has several configurations ({'; '.join(of_method)})"
        if asked is not None:
            raise RequestError(f"--baseline {name}: {described}; name one of them in full")
        found.note(f"no differences to a baseline: {described}; name one of them in full with --baseline")
    elif asked is not None:
        raise RequestError(f"unknown baseline {asked!r}{nearest(asked, labels)}")
    return None


def main_table(frame: Frame, found: Found, *, ks: Sequence[int], baseline: str | None) -> Table:
    """A row a method (with the settings that differ), task and split.

    All rows of a task and split share one draw of problems, so their differences to the baseline are paired.
    """
    metrics = _metrics(frame, ks)
    records: list[dict[str, object]] = []
    for rows in _columns(frame.rows):
        measured: dict[str, dict[str, object]] = {row.label: {} for row in rows}
        for metric in metrics:
            for label, cells in _compare(rows, metric, baseline).items():
                measured[label].update(cells)
        records.extend({**_described(row), "baseline": baseline, **measured[row.label]} for row in rows)
    names = [
        f"{metric}{part}" for metric in metrics for part in ("", "_low", "_high", "_diff", "_diff_low", "_diff_high")
    ]
    columns = ["method", "task", "split", "seeds", "problems", "n", "temperature", "baseline", *names]
    caption = [*_caption(frame.rows, found), *_about_base(frame.rows)]
    if baseline is not None:
        caption.append(f"Differences: row minus {baseline}, paired over problems.")
    table = pd.DataFrame(records, columns=columns)
    return Table("main", "Methods and tasks", table, tuple(metrics), baseline, tuple(caption))


def ablation_tables(frame: Frame, main: Table, found: Found) -> list[Table]:
    """A table for each configuration key of which one method has several values with all else equal."""
    tables = []
    rows_of: dict[str, list[tuple[Row, str]]] = {}
    for method in sorted({row.run.method for row in frame.rows if row.run.identity.kind == "run"}):
        rows = [row for row in frame.rows if row.run.method == method and row.run.identity.kind == "run"]
        for key in differing_settings(row.run for row in rows):
            rows_of.setdefault(key, []).extend(_swept(rows, key))
    for key, swept in sorted(rows_of.items()):
        if not swept:
            continue
        records = [_ablation_record(main, row, key, held) for row, held in swept]
        parts = [f"{metric}{part}" for metric in main.metrics for part in ("", "_low", "_high")]
        columns = ["method", "held", key, "task", "split", "seeds", "problems", "n", "temperature", *parts]
        caption = _caption([row for row, _ in swept], found)
        name = f"ablation-{re.sub(r'[^A-Za-z0-9._-]', '_', key)}"  # a key from W&B may be anything
        tables.append(
            Table(
                name, f"Ablation of {key}", pd.DataFrame(records, columns=columns), main.metrics, None, tuple(caption)
            )
        )
    return tables


def provenance_table(frame: Frame, found: Found) -> Table:
    """Where every number came from: a row a run, those without an evaluation in the report too."""
    labels = {e.run.tracked.id: row.label for row in frame.rows for e in row.evaluations}
    records = [
        {
            "run": run.identity.directory,
            "wandb_id": run.tracked.id,
            "study": run.tracked.group,
            "method": labels.get(run.tracked.id, run.method),
            "seed": run.identity.seed,
            "config_hash": run.identity.config_hash,
            "commit": run.identity.commit,
            "version": run.identity.version,
            "status": run.tracked.status,
            "source": found.origin[run.tracked.id],
            "path": str(run.tracked.path),
            "evaluations": "; ".join(frame.used[run.tracked.id]) or "none",
        }
        for run in frame.runs
    ]
    caption = (f"Sources: {_read_from(list(frame.used), found)}.",)
    return Table("provenance", "Provenance", pd.DataFrame(records), (), None, caption)


def pass_at_k_curve(rows: Sequence[Row], ks: Sequence[int]) -> dict[int, dict[str, Interval]]:
    """For each k the Pass@k of each row of one task and split with its interval: the data of a figure."""
    return {k: {label: c.mean for label, c in crossed(_values(rows, f"pass@{k}")).items()} for k in ks}


def preferred(rows: Sequence[Row]) -> list[list[Row]]:
    """For each task the rows of its test split, or of whatever split there is."""
    by_task: dict[str, list[Row]] = {}
    for column in _columns(rows):  # test comes first
        by_task.setdefault(column[0].task, column)
    return list(by_task.values())


def seeds_of(rows: Sequence[Row]) -> str:
    """``3 seeds`` or ``1 to 3 seeds``: those of trained methods, since a model that is no run of ours has none."""
    counts = [len(row.evaluations) for row in rows if row.run.identity.kind == "run"] or [1]
    span = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{span} seed{'s' if max(counts) > 1 else ''}"


def _columns(rows: Iterable[Row]) -> list[list[Row]]:
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.task, row.split), []).append(row)
    return list(grouped.values())


def _metrics(frame: Frame, ks: Sequence[int]) -> list[str]:
    measured = [m for m in ("entropy", "distinct_correct") if any(row.values(m) is not None for row in frame.rows)]
    return [*(f"pass@{k}" for k in ks), *measured]


def _values(rows: Sequence[Row], metric: str) -> dict[str, Floats]:
    return {row.label: values for row in rows if (values := row.values(metric)) is not None}


def _compare(rows: Sequence[Row], metric: str, baseline: str | None) -> dict[str, dict[str, object]]:
    groups = _values(rows, metric)
    if not groups:
        return {}
    cells: dict[str, dict[str, object]] = {}
    for label, result in crossed(groups, baseline=baseline if baseline in groups else None).items():
        cells[label] = _cells(metric, result.mean)
        if result.difference is not None:
            cells[label].update(_cells(f"{metric}_diff", result.difference))
    return cells


def _cells(name: str, interval: Interval) -> dict[str, object]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _described(row: Row) -> dict[str, object]:
    first = row.evaluations[0]
    return {
        "method": row.label,
        "task": row.task,
        "split": row.split,
        "seeds": len(row.evaluations),
        "problems": len(first.problem_ids),
        "n": first.n,
        "temperature": first.temperature,
    }


def _swept(rows: Sequence[Row], key: str) -> list[tuple[Row, str]]:
    """The rows of one method that differ in ``key`` from another with all else equal, and what else they hold fixed."""
    others = [other for other in differing_settings(row.run for row in rows) if other != key]
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        held = ", ".join(f"{other}={shown(row.run.settings.get(other))}" for other in others)
        grouped.setdefault(held, []).append(row)
    return [
        (row, held)
        for held, same in sorted(grouped.items())
        if len({comparable(row.run.settings.get(key)) for row in same}) > 1
        for row in same
    ]


def _ablation_record(main: Table, row: Row, key: str, held: str) -> dict[str, object]:
    frame = main.frame
    same = (frame["method"] == row.label) & (frame["task"] == row.task) & (frame["split"] == row.split)
    measured = {str(column): value for column, value in frame[same].iloc[0].items()}
    return {**measured, "method": row.run.method, "held": held, key: row.run.settings.get(key)}


def _read_from(run_ids: Iterable[str], found: Found) -> str:
    counts = Counter(found.origin[run_id] for run_id in run_ids)
    return "; ".join(f"{count} run{'s' if count > 1 else ''} read from {place}" for place, count in counts.items())


def _caption(rows: Sequence[Row], found: Found) -> list[str]:
    run_ids = dict.fromkeys(e.run.tracked.id for row in rows for e in row.evaluations)
    sentences = [f"Sources: {_read_from(run_ids, found)}."]
    for column in _columns(rows):
        first = column[0].evaluations[0]
        sentences.append(
            f"{first.task} ({first.split}): {len(first.problem_ids)} problems, n = {first.n} samples a problem, "
            f"temperature {first.temperature:g}, {seeds_of(column)} a row."
        )
    sentences.append(f"Intervals: {crossed_method()}. Entropy in nats at the sampling temperature.")
    if any(len(row.evaluations) < FEW_SEEDS and row.run.identity.kind == "run" for row in rows):
        sentences.append(
            f"Fewer than {FEW_SEEDS} seeds in some rows: their intervals are too narrow as statements about a method, "
            "and with one seed they are about that one policy only."
        )
    if any(row.split == "validation" for row in rows):
        sentences.append("Validation split: what settings were chosen on; not a final result.")
    return sentences


def _about_base(rows: Sequence[Row]) -> list[str]:
    models = {row.run.identity.model for row in rows if row.label == "base"}
    return [f"base: {model}, the policy that training started from." for model in sorted(models)]
