"""The dataset that everything in a report is made from: rows with their seeds, and all runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from progrpo_cli.config.values import format_value
from progrpo_cli.evaluation.scores_file import N_DEPENDENT_METRICS, ComparableKey
from progrpo_cli.reporting.analysis.comparability import ComparableEvaluations, choose_evaluations
from progrpo_cli.reporting.analysis.labels import BASE, row_labels
from progrpo_cli.reporting.reading.evaluations import Evaluation, read_evaluations
from progrpo_cli.reporting.reading.identity import ReportedRun, differing_settings, identify, note_versions
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.reading.record import CURVES, Floats

if TYPE_CHECKING:
    import pandas as pd


SPLIT_ORDER = {"test": 0, "validation": 1}
"""Other splits come last: training problems say least about new ones."""


@dataclass(frozen=True)
class Row:
    """The seeds of one method and configuration, or one model, on one task and split."""

    label: str
    task: str
    split: str
    evaluations: tuple[Evaluation, ...]
    """One per seed, ascending, all measured in the same way."""
    key: ComparableKey
    """Only rows with equal keys may be subtracted from each other."""
    footnote: str = ""
    """How it was measured, if other rows of its task and split were measured differently (``--mixed``)."""
    sampled: str = ""
    """How it was sampled, if other rows were sampled differently, e.g. ``temperature 0.7``. Trained rows have it only
    if they differ among themselves, not if the base alone has several temperatures."""

    @property
    def brackets(self) -> str:
        """The suffix of the label, e.g. `` [back end vllm, temperature 0.7]``; may be empty."""
        parts = ", ".join(part for part in (self.footnote, self.sampled) if part)
        return f" [{parts}]" if parts else ""

    @property
    def name(self) -> str:
        """Unique within a task and split."""
        return f"{self.label}{self.brackets}"

    @property
    def n(self) -> int:
        """Samples per problem; the smallest number if seeds differ."""
        return min(e.n for e in self.evaluations)

    @property
    def run(self) -> ReportedRun:
        """The run of the first seed; all seeds have the same method and settings."""
        return self.evaluations[0].run

    @property
    def is_base(self) -> bool:
        """Whether this is the policy that training started from."""
        return self.run.is_model and self.label.startswith(BASE)

    def values(self, metric: str) -> Floats | None:
        """(S, P) values; None if a seed lacks the metric, or if it depends on n and seeds have different n."""
        if metric in N_DEPENDENT_METRICS and len({e.n for e in self.evaluations}) > 1:
            return None
        per_seed = [values for e in self.evaluations if (values := e.values(metric)) is not None]
        return np.stack(per_seed) if len(per_seed) == len(self.evaluations) else None


@dataclass(frozen=True)
class Dataset:
    """The rows and runs of a report."""

    rows: list[Row]
    """Ordered by task, split (test, validation, training problems), then base, other models, methods."""
    runs: list[ReportedRun]
    """All runs, including those without evaluations."""
    used: dict[str, list[str]]
    """Run id -> its evaluations that are in ``rows``."""


def build_dataset(loaded: LoadedRuns, *, mixed: bool = False) -> Dataset:
    """Build the dataset. Everything left out is named in ``loaded.notes``.

    Raises:
        WorkError: evaluations were measured in several ways with equally many policies, and ``mixed`` is false.
    """
    runs = [run for record in loaded.runs if (run := identify(record, loaded)) is not None]
    evaluations: list[Evaluation] = []
    for run in runs:
        run_evaluations = read_evaluations(run, loaded)
        record = run.record
        if not run_evaluations:
            loaded.note(
                f"{record.path}: {record.name} ({record.status}) has no scores and is left out; "
                "evaluate it with `progrpo eval`"
            )
        elif record.status not in ("finished", "unknown"):
            loaded.note(f"{record.path}: {record.name} has scores although its status is {record.status}")
        evaluations.extend(run_evaluations)
    note_versions(runs, loaded)
    _note_not_finite(runs, loaded)
    groups = choose_evaluations(evaluations, loaded, mixed=mixed)
    evaluations = [e for group in groups for e in group.evaluations]
    rows = _build_rows(groups, row_labels([e.run for e in evaluations]))
    used: dict[str, list[str]] = {run.record.id: [] for run in runs}
    for evaluation in evaluations:
        used[evaluation.run.record.id].append(f"{evaluation.key} ({evaluation.split})")
    return Dataset(rows, runs, used)


def tidy_frame(dataset: Dataset, loaded: LoadedRuns, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per run, task and metric with the mean over problems and its source."""
    import pandas as pd

    keys = differing_settings(run for run in dataset.runs if not run.is_model)
    records = [
        {
            "method": row.label,
            "parameters": json.dumps({key: e.run.settings[key] for key in keys if key in e.run.settings}),
            "seed": e.run.identity.seed,
            "task": e.task,
            "split": e.split,
            "metric": metric,
            "value": float(values.mean()),
            "problems": len(e.problem_ids),
            "n": e.n,
            "samples": int(e.drawn.sum()),
            "correct": int(e.correct.sum()),
            "temperature": e.sampling.temperature,
            "config_hash": e.run.identity.config_hash,
            "commit": e.run.identity.commit,
            "run": e.run.identity.directory,
            "evaluation": e.key,
            "source": loaded.origin[e.run.record.id],
        }
        for row in dataset.rows
        for e in row.evaluations
        for metric in metrics
        if (values := e.values(metric)) is not None
    ]
    return pd.DataFrame(records)


def _note_not_finite(runs: Sequence[ReportedRun], loaded: LoadedRuns) -> None:
    metrics = dict.fromkeys(metric for run in runs for metric in run.record.curves.not_finite)
    for metric in dict.fromkeys(["step", *(name for name in CURVES if name in metrics), *metrics]):
        affected = [run.record for run in runs if metric in run.record.curves.not_finite]
        if affected:
            count = sum(record.curves.not_finite[metric] for record in affected)
            reason = "are not valid steps" if metric == "step" else "are not finite"
            loaded.note(
                f"{metric}: {count} logged values that {reason} are left out of figures, in {len(affected)} runs; "
                f"the first is {affected[0].path}"
            )


def _build_rows(groups: Sequence[ComparableEvaluations], names: Mapping[tuple[str, str], str]) -> list[Row]:
    rows = []
    trained = {(e.task, e.split, e.sampling) for group in groups for e in group.evaluations if not e.run.is_model}
    for group in groups:
        by_label: dict[str, list[Evaluation]] = {}
        for e in group.evaluations:
            by_label.setdefault(names[e.run.row], []).append(e)
        measure = group.key.measure
        samplings = [sampling for task, split, sampling in trained if (task, split) == (measure.task, measure.split)]
        for label, evaluations in by_label.items():
            seeds = tuple(sorted(evaluations, key=lambda e: e.run.identity.seed))
            sampled = group.sampled if seeds[0].run.is_model or len(samplings) > 1 else ""
            rows.append(Row(label, measure.task, measure.split, seeds, group.key, group.footnote, sampled))
    return sorted(rows, key=_sort_key)


def _sort_key(row: Row) -> tuple[object, ...]:
    rank = 2 if not row.run.is_model else 1 if not row.is_base else 0
    # Numbers sort by size, before text; a setting may be a number in one run and text in another.
    settings = tuple(
        (key, 0, float(value), "") if isinstance(value, int | float) else (key, 1, 0.0, format_value(value))
        for key, value in sorted(row.run.settings.items())
    )
    split = (SPLIT_ORDER.get(row.split, len(SPLIT_ORDER)), row.split)
    measured = (row.footnote, row.key.sampling.temperature, row.key.sampling.top_p)
    return (row.task, *split, rank, row.run.method, settings, row.label, measured)
