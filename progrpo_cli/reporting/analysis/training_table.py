"""Pass@k on the training problems, as sampled in training and as evaluated, beside that on the test problems."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pandas as pd

from progrpo_cli.reporting.analysis.dataset import Dataset, Row
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.analysis.views import is_missing, to_records

TRAIN, TEST = "rl", "test"
LAST_UPDATES = 0.1
"""Share of a run's updates, at its end, whose rollouts are averaged."""

_CAPTION = (
    "Rollouts: Pass@k of the samples drawn in training, averaged over the last tenth of the updates and over seeds. "
    "The policy was still changing, and each prompt has one group of samples.",
    "Train and test: evaluated after training, as in the main table, which has the intervals.",
    "Gap: train minus test. It is not paired, because the problems differ.",
)
_NOT_EVALUATED = "No run was evaluated on the training problems; run `progrpo eval RUN --split train`."


def training_table(dataset: Dataset, main: Table) -> Table:
    """One row per method and task.

    Columns: ``rollouts_pass@k`` for 1 and the group sizes, and for each k of the report ``train_pass@k``,
    ``test_pass@k`` and ``gap_pass@k``.
    """
    by_split: dict[tuple[str, str], dict[str, Row]] = {}
    for row in dataset.rows:
        if not row.run.is_model and row.split in (TRAIN, TEST):
            by_split.setdefault((row.name, row.task), {})[row.split] = row
    main_records = {(r["method"], r["task"], r["split"]): r for r in to_records(main.frame)}
    passes = [metric for metric in main.metrics if metric.startswith("pass@")]
    records = []
    for (name, task), rows in by_split.items():
        first = next(iter(rows.values()))
        record: dict[str, object] = {"method": name, "task": task, "seeds": len(first.evaluations)}
        record |= {f"rollouts_{metric}": value for metric, value in _rollout_pass_at_k(first).items()}
        for metric in passes:
            train, test = (_value(main_records.get((name, task, split)), metric) for split in (TRAIN, TEST))
            record |= {f"train_{metric}": train, f"test_{metric}": test}
            record[f"gap_{metric}"] = None if train is None or test is None else train - test
        records.append(record)
    rollouts = sorted({c for r in records for c in r if c.startswith("rollouts_")}, key=lambda c: int(c.split("@")[1]))
    evaluated = [f"{part}_{metric}" for metric in passes for part in ("train", "test", "gap")]
    table = pd.DataFrame(records, columns=["method", "task", "seeds", *rollouts, *evaluated])
    table[[*rollouts, *evaluated]] = table[[*rollouts, *evaluated]].astype(float).round(4)
    was_evaluated = any(TRAIN in rows for rows in by_split.values())
    caption = (*_CAPTION, *(() if was_evaluated else (_NOT_EVALUATED,)))
    return Table("training", "Training problems beside the test's", table, (), None, caption)


def _rollout_pass_at_k(row: Row) -> dict[str, float]:
    """``pass@k`` -> mean over the last rollouts and the seeds, for each k that all seeds logged."""
    seeds = []
    for evaluation in row.evaluations:
        curves = evaluation.run.record.curves
        last = max(1, math.ceil(LAST_UPDATES * len(curves.steps)))
        columns = {name: values[-last:] for name, values in curves.values.items() if name.startswith("pass@")}
        seeds.append({name: _finite_mean([float(value) for value in values]) for name, values in columns.items()})
    names = set.intersection(*(set(means) for means in seeds))
    return {name: statistics.mean(means[name] for means in seeds) for name in names}


def _finite_mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.mean(finite) if finite else math.nan


def _value(record: dict[str, object] | None, metric: str) -> float | None:
    return None if record is None or is_missing(record[metric]) else float(str(record[metric]))
