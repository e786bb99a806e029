"""Pass@k on the problems that were trained on, beside the test's: as training saw it, and as it was evaluated."""

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
"""The share of a run's updates, its last ones, over whose rollouts is averaged."""

_CAPTION = (
    "Rollouts: the Pass@k of what training sampled, averaged over the last tenth of its updates and over seeds; of "
    "policies that were still changing, on whatever prompts were next, with the group's samples a prompt.",
    "Train and test: evaluated after training, as in the main table, which has the intervals.",
    "Gap: train minus test; its problems are others, so it is not paired.",
)
_NOT_EVALUATED = "Nothing was evaluated on the training problems: `progrpo eval RUN --split train` does."


def training_table(frame: Dataset, main: Table) -> Table:
    """A row a method and task.

    Columns: ``rollouts_pass@k`` for 1 and the sizes of groups, and for each k of the report ``train_pass@k``,
    ``test_pass@k`` and ``gap_pass@k``.
    """
    of_split: dict[tuple[str, str], dict[str, Row]] = {}
    for row in frame.rows:
        if not row.run.is_model and row.split in (TRAIN, TEST):
            of_split.setdefault((row.name, row.task), {})[row.split] = row
    measured = {(r["method"], r["task"], r["split"]): r for r in to_records(main.frame)}
    ks = [metric for metric in main.metrics if metric.startswith("pass@")]
    records = []
    for (name, task), rows in of_split.items():
        record: dict[str, object] = {"method": name, "task": task}
        some = next(iter(rows.values()))
        record["seeds"] = len(some.evaluations)
        record |= {f"rollouts_{k}": value for k, value in _rollouts(some).items()}
        for metric in ks:
            train, test = (_value(measured.get((name, task, split)), metric) for split in (TRAIN, TEST))
            record |= {f"train_{metric}": train, f"test_{metric}": test}
            record[f"gap_{metric}"] = None if train is None or test is None else train - test
        records.append(record)
    rollouts = sorted({c for r in records for c in r if c.startswith("rollouts_")}, key=lambda c: int(c.split("@")[1]))
    evaluated = [f"{part}_{metric}" for metric in ks for part in ("train", "test", "gap")]
    table = pd.DataFrame(records, columns=["method", "task", "seeds", *rollouts, *evaluated])
    table[[*rollouts, *evaluated]] = table[[*rollouts, *evaluated]].astype(float).round(4)
    was_evaluated = any(TRAIN in rows for rows in of_split.values())
    caption = (*_CAPTION, *(() if was_evaluated else (_NOT_EVALUATED,)))
    return Table("training", "Training problems beside the test's", table, (), None, caption)


def _rollouts(row: Row) -> dict[str, float]:
    """``pass@k`` of the last rollouts, the mean over the row's seeds; without what some seed did not log."""
    of_seeds = []
    for evaluation in row.evaluations:
        curves = evaluation.run.record.curves
        last = max(1, math.ceil(LAST_UPDATES * len(curves.steps)))
        columns = {name: values[-last:] for name, values in curves.values.items() if name.startswith("pass@")}
        of_seeds.append({name: _mean([float(value) for value in values]) for name, values in columns.items()})
    names = set.intersection(*(set(of_seed) for of_seed in of_seeds))
    return {name: statistics.mean(of_seed[name] for of_seed in of_seeds) for name in names}


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.mean(finite) if finite else math.nan


def _value(record: dict[str, object] | None, metric: str) -> float | None:
    return None if record is None or is_missing(record[metric]) else float(str(record[metric]))
