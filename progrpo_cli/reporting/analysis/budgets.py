"""Training budgets: their means per row, and whether methods had the same budget."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pandas as pd

from progrpo_cli.records.budget import TOTALS, UPDATES
from progrpo_cli.reporting.analysis.dataset import Row
from progrpo_cli.reporting.reading.identity import ReportedRun

COLUMNS = (UPDATES, *TOTALS)
COMPARED = (UPDATES, "samples_drawn", "tokens_drawn")
TOKEN_TOLERANCE = 0.1
"""Relative difference in tokens up to which budgets count as equal, because completions differ in length."""
CONFIGURED = ("train.steps", "train.prompts_per_rollout", "train.group_size", "train.updates_per_rollout")


def run_budget(run: ReportedRun) -> dict[str, object]:
    """Column of ``COLUMNS`` -> value of a run; None if it was not counted, and for models."""
    budget = None if run.is_model else run.record.budget
    return {name: None if budget is None else getattr(budget, name) for name in COLUMNS}


def mean_budget(row: Row) -> dict[str, object]:
    """The means over a row's seeds, rounded except for seconds; None if a seed was not counted."""
    runs = [run_budget(e.run) for e in row.evaluations]
    means: dict[str, object] = {}
    for name in COLUMNS:
        values = [float(str(run[name])) for run in runs if run[name] is not None]
        mean = statistics.mean(values) if len(values) == len(runs) else None
        means[name] = mean if mean is None or name == "train_seconds" else round(mean)
    return means


def keep_integers(frame: pd.DataFrame, records: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Restore the integers of the records in ``COLUMNS``: pandas makes floats of them beside empty cells."""
    for name in COLUMNS:
        frame[name] = pd.Series([record[name] for record in records], dtype=object, index=frame.index)
    return frame


def budget_caveats(rows: Sequence[Row]) -> list[str]:
    """Caveats about unequal budgets, from the counted budgets or, if there are none, from the configurations."""
    trained = [row for row in rows if not row.run.is_model]
    means = {row.name: mean_budget(row) for row in trained}
    unknown = [name for name, mean in means.items() if any(mean[column] is None for column in COMPARED)]
    sentences = []
    differences = [
        text for column in COMPARED if (text := _difference(column, {n: mean[column] for n, mean in means.items()}))
    ]
    if differences:
        sentences.append(f"The methods did not have the same budget (mean per run): {'; '.join(differences)}.")
    elif unknown and len({tuple(row.run.settings.get(key) for key in CONFIGURED) for row in trained}) > 1:
        sentences.append("The methods did not train for equally many updates on equally many samples.")
    if unknown:
        sentences.append(
            f"The number of samples is unknown for {', '.join(unknown[:4])}"
            f"{f' and {len(unknown) - 4} more' if len(unknown) > 4 else ''}: it was not counted during their training."
        )
    return sentences


def _difference(column: str, values: dict[str, object]) -> str | None:
    """The range of a column, e.g. ``updates from 20 (grpo) to 30 (dapo)``; None if all rows are equal."""
    known = {name: float(str(value)) for name, value in values.items() if value is not None}
    if len(known) < 2:
        return None
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    tolerance = TOKEN_TOLERANCE * known[least] if column == "tokens_drawn" else 0.0
    if known[most] - known[least] <= tolerance:
        return None
    return f"{column} from {known[least]:,.0f} ({least}) to {known[most]:,.0f} ({most})"
