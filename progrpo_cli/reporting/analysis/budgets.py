"""What training took, a mean a run, beside the scores it led to; and whether methods were given the same."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import pandas as pd

from progrpo_cli.records.budget import TOTALS, UPDATES
from progrpo_cli.reporting.analysis.dataset import Row
from progrpo_cli.reporting.reading.identity import ReportedRun

COLUMNS = (UPDATES, *TOTALS)
COMPARED = (UPDATES, "samples_drawn", "tokens_drawn")
ALIKE_WITHIN = 0.1
"""Tokens never agree exactly: completions differ in length. Up to this share more is no other budget."""
CONFIGURED = ("train.steps", "train.prompts_per_rollout", "train.group_size", "train.updates_per_rollout")


def of_run(run: ReportedRun) -> dict[str, object]:
    """A run's budget by the names of ``COLUMNS``, None where nobody counted; of a model, which no run of ours trained,
    nothing."""
    budget = None if run.is_model else run.record.budget
    return {name: None if budget is None else getattr(budget, name) for name in COLUMNS}


def mean_budget(row: Row) -> dict[str, object]:
    """The means over a row's seeds, whole numbers but for the seconds; None unless every seed was counted."""
    runs = [of_run(e.run) for e in row.evaluations]
    means: dict[str, object] = {}
    for name in COLUMNS:
        values = [float(str(run[name])) for run in runs if run[name] is not None]
        mean = statistics.mean(values) if len(values) == len(runs) else None
        means[name] = mean if mean is None or name == "train_seconds" else round(mean)
    return means


def keep_integers(frame: pd.DataFrame, records: Sequence[dict[str, object]]) -> pd.DataFrame:
    """The frame of the records with whole numbers in ``COLUMNS``: beside an empty cell pandas would make floats."""
    for name in COLUMNS:
        frame[name] = pd.Series([record[name] for record in records], dtype=object, index=frame.index)
    return frame


def budget_caveats(rows: Sequence[Row]) -> list[str]:
    """What is to be objected to the rows' budgets: by what was counted, else by their configurations."""
    trained = [row for row in rows if not row.run.is_model]
    means = {row.name: mean_budget(row) for row in trained}
    unknown = [name for name, mean in means.items() if any(mean[column] is None for column in COMPARED)]
    sentences = []
    different = [
        said for column in COMPARED if (said := _difference(column, {n: mean[column] for n, mean in means.items()}))
    ]
    if different:
        sentences.append(f"The methods were not given the same budget; a mean a run, {'; '.join(different)}.")
    elif unknown and len({tuple(row.run.settings.get(key) for key in CONFIGURED) for row in trained}) > 1:
        sentences.append("The methods did not train for equally many updates on equally many samples.")
    if unknown:
        sentences.append(
            f"How much was drawn is unknown for {', '.join(unknown[:4])}"
            f"{f' and {len(unknown) - 4} more' if len(unknown) > 4 else ''}: it was not counted when they were trained."
        )
    return sentences


def _difference(column: str, of_rows: dict[str, object]) -> str | None:
    known = {name: float(str(value)) for name, value in of_rows.items() if value is not None}
    if len(known) < 2:
        return None
    least, most = (end(known, key=lambda name: known[name]) for end in _ENDS)
    room = ALIKE_WITHIN * known[least] if column == "tokens_drawn" else 0.0
    if known[most] - known[least] <= room:
        return None
    return f"{column} from {known[least]:,.0f} ({least}) to {known[most]:,.0f} ({most})"


_ENDS: tuple[Callable[..., str], ...] = (min, max)
