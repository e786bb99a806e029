"""A table for each swept parameter: everything else held equal."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from progrpo_cli.config import versions
from progrpo_cli.config.values import comparable, shown
from progrpo_cli.evaluation.scores_file import ComparableKey
from progrpo_cli.reporting.analysis import budgets
from progrpo_cli.reporting.analysis.caption import caption
from progrpo_cli.reporting.analysis.compare import PARTS
from progrpo_cli.reporting.analysis.dataset import Dataset, Row
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.analysis.views import to_records
from progrpo_cli.reporting.reading.identity import differing_settings
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns


def ablation_tables(frame: Dataset, main: Table, loaded: LoadedRuns) -> list[Table]:
    """A table for each configuration key of which one method has several values with all else equal."""
    tables = []
    rows_of: dict[str, list[tuple[Row, str]]] = {}
    trained = [row for row in frame.rows if not row.run.is_model]
    for method in sorted({row.run.method for row in trained}):
        rows = [row for row in trained if row.run.method == method]
        differing = differing_settings(row.run for row in rows)
        for key in (key for key in differing if key not in versions.KEYS):  # nobody sweeps the code's versions
            rows_of.setdefault(key, []).extend(_swept(rows, key, [other for other in differing if other != key]))
    measured = {
        (str(record["method"]), str(record["task"]), str(record["split"])): record for record in to_records(main.frame)
    }
    for key, swept in sorted(rows_of.items()):
        if not swept:
            continue
        records = [
            {
                **measured[row.name, row.task, row.split],
                "method": row.run.method + row.brackets,
                "held": held,
                key: row.run.settings.get(key),
            }
            for row, held in swept
        ]
        parts = [f"{metric}{part}" for metric in main.metrics for part in PARTS]
        columns = ["method", "held", key, "task", "split", "seeds", "problems", "n", "temperature"]
        columns += [*budgets.COLUMNS, *parts]
        sentences = caption([row for row, _ in swept], loaded)
        fixed = {held for _, held in swept}
        if len(fixed) == 1 and "" not in fixed:  # its column is hidden where it says one thing
            sentences.append(f"Held fixed: {fixed.pop()}.")
        name = f"ablation-{re.sub(r'[^A-Za-z0-9._-]', '_', key)}"  # a key from W&B may be anything
        frame_of_key = budgets.keep_integers(pd.DataFrame(records, columns=columns), records)
        tables.append(Table(name, f"Ablation of {key}", frame_of_key, main.metrics, None, tuple(sentences)))
    return tables


def swept_key(table: Table) -> str:
    """The key that an ablation table is about."""
    return str(table.frame.columns[2])


def _swept(rows: Sequence[Row], key: str, others: Sequence[str]) -> list[tuple[Row, str]]:
    """The rows of one method that differ in ``key`` from another with all else equal, and what else they hold fixed."""
    grouped: dict[tuple[str, ComparableKey], list[Row]] = {}
    for row in rows:
        held = ", ".join(f"{other}={shown(row.run.settings.get(other))}" for other in others)
        grouped.setdefault((held, row.key), []).append(row)
    return [
        (row, held)
        for (held, _), same in sorted(grouped.items(), key=lambda group: group[0][0])
        if len({comparable(row.run.settings.get(key)) for row in same}) > 1
        for row in same
    ]
