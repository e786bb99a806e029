"""Ablation tables: one per swept parameter, with all other settings equal."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from progrpo_cli.config import versions
from progrpo_cli.config.values import comparison_text, format_value
from progrpo_cli.evaluation.scores_file import ComparableKey
from progrpo_cli.reporting.analysis import budgets
from progrpo_cli.reporting.analysis.caption import caption
from progrpo_cli.reporting.analysis.compare import PARTS
from progrpo_cli.reporting.analysis.dataset import Dataset, Row
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.analysis.views import to_records
from progrpo_cli.reporting.reading.identity import differing_settings
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns


def ablation_tables(dataset: Dataset, main: Table, loaded: LoadedRuns) -> list[Table]:
    """A table for each configuration key with several values in one method and all other settings equal."""
    tables = []
    by_key: dict[str, list[tuple[Row, str]]] = {}
    trained = [row for row in dataset.rows if not row.run.is_model]
    for method in sorted({row.run.method for row in trained}):
        rows = [row for row in trained if row.run.method == method]
        differing = differing_settings(row.run for row in rows)
        for key in (key for key in differing if key not in versions.KEYS):  # versions of the code are not swept
            by_key.setdefault(key, []).extend(_swept_rows(rows, key, [other for other in differing if other != key]))
    main_records = {
        (str(record["method"]), str(record["task"]), str(record["split"])): record for record in to_records(main.frame)
    }
    for key, swept in sorted(by_key.items()):
        if not swept:
            continue
        records = [
            {
                **main_records[row.name, row.task, row.split],
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
        if len(fixed) == 1 and "" not in fixed:  # views hide a column with a single value
            sentences.append(f"Held fixed: {fixed.pop()}.")
        name = f"ablation-{re.sub(r'[^A-Za-z0-9._-]', '_', key)}"  # a key from W&B may be anything
        frame = budgets.keep_integers(pd.DataFrame(records, columns=columns), records)
        tables.append(Table(name, f"Ablation of {key}", frame, main.metrics, None, tuple(sentences)))
    return tables


def swept_key(table: Table) -> str:
    """The swept key of an ablation table."""
    return str(table.frame.columns[2])


def _swept_rows(rows: Sequence[Row], key: str, others: Sequence[str]) -> list[tuple[Row, str]]:
    """The rows of one method that differ from another row only in ``key``, each with its other settings as text."""
    groups: dict[tuple[str, ComparableKey], list[Row]] = {}
    for row in rows:
        held = ", ".join(f"{other}={format_value(row.run.settings.get(other))}" for other in others)
        groups.setdefault((held, row.key), []).append(row)
    return [
        (row, held)
        for (held, _), group in sorted(groups.items(), key=lambda item: item[0][0])
        if len({comparison_text(row.run.settings.get(key)) for row in group}) > 1
        for row in group
    ]
