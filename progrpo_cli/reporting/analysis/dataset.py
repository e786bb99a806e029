"""The one frame that everything in a report is made from: rows with their seeds, and every run that was found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from progrpo_cli.config.values import shown
from progrpo_cli.evaluation.scores_file import N_DEPENDENT_METRICS, ComparableKey
from progrpo_cli.reporting.analysis.comparability import ComparableEvaluations, choose
from progrpo_cli.reporting.analysis.labels import BASE, row_labels
from progrpo_cli.reporting.reading.evaluations import Evaluation, read_evaluations
from progrpo_cli.reporting.reading.identity import ReportedRun, differing_settings, identify, note_versions
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.reading.record import CURVES, Floats

if TYPE_CHECKING:
    import pandas as pd


SPLIT_ORDER = {"test": 0, "validation": 1}
"""Then all others: what was trained on says least about new problems."""


@dataclass(frozen=True)
class Row:
    """The seeds of one method and configuration, or a model, on one task and split."""

    label: str
    task: str
    split: str
    evaluations: tuple[Evaluation, ...]
    """One a seed, ascending, all measured alike."""
    key: ComparableKey
    """Rows with the same one may be subtracted from each other, no others."""
    footnote: str = ""
    """In what it was measured otherwise than other rows of its task and split, which somebody asked for."""
    sampled: str = ""
    """In what it was sampled otherwise, e.g. ``temperature 0.7``; of trained rows only where they differ among
    themselves, and not where the base alone has several temperatures."""

    @property
    def brackets(self) -> str:
        """What stands behind the label: `` [back end vllm, temperature 0.7]``, or nothing."""
        said = ", ".join(part for part in (self.footnote, self.sampled) if part)
        return f" [{said}]" if said else ""

    @property
    def name(self) -> str:
        """Unique within a task and split."""
        return f"{self.label}{self.brackets}"

    @property
    def n(self) -> int:
        """Samples a problem; where seeds have different numbers, the least."""
        return min(e.n for e in self.evaluations)

    @property
    def run(self) -> ReportedRun:
        """The first seed's run: all of them have the same method and settings."""
        return self.evaluations[0].run

    @property
    def is_base(self) -> bool:
        """Whether this is the policy that training started from."""
        return self.run.is_model and self.label.startswith(BASE)

    def values(self, metric: str) -> Floats | None:
        """(S, P); None unless every seed has the metric, and one that grows with n has it of as many samples."""
        if metric in N_DEPENDENT_METRICS and len({e.n for e in self.evaluations}) > 1:
            return None
        per_seed = [values for e in self.evaluations if (values := e.values(metric)) is not None]
        return np.stack(per_seed) if len(per_seed) == len(self.evaluations) else None


@dataclass(frozen=True)
class Dataset:
    """Everything a report is made from."""

    rows: list[Row]
    """By task, split (test, validation, what was trained on), and within: base, other models, methods."""
    runs: list[ReportedRun]
    """All runs of ours that were found, those without evaluations too."""
    used: dict[str, list[str]]
    """Run id -> its evaluations that are in ``rows``."""


def build_dataset(loaded: LoadedRuns, *, mixed: bool = False) -> Dataset:
    """Make the frame; what is left out goes to ``loaded.notes``.

    Raises:
        WorkError: evaluations were measured in several ways that as many policies have, and ``mixed`` is false.
    """
    runs = [run for record in loaded.runs if (run := identify(record, loaded)) is not None]
    evaluations: list[Evaluation] = []
    for run in runs:
        of_run = read_evaluations(run, loaded)
        record = run.record
        if not of_run:
            loaded.note(
                f"{record.path}: {record.name} ({record.status}) has no scores and is left out; "
                "`progrpo eval` makes them"
            )
        elif record.status not in ("finished", "unknown"):
            loaded.note(f"{record.path}: {record.name} has scores although its status is {record.status}")
        evaluations.extend(of_run)
    note_versions(runs, loaded)
    _note_not_finite(runs, loaded)
    alike = choose(evaluations, loaded, mixed=mixed)
    evaluations = [e for group in alike for e in group.evaluations]
    rows = _rows(alike, row_labels([e.run for e in evaluations]))
    used: dict[str, list[str]] = {run.record.id: [] for run in runs}
    for evaluation in evaluations:
        used[evaluation.run.record.id].append(f"{evaluation.key} ({evaluation.split})")
    return Dataset(rows, runs, used)


def tidy_frame(frame: Dataset, loaded: LoadedRuns, metrics: Sequence[str]) -> pd.DataFrame:
    """A row a run, task and metric, with the mean over problems and where it came from."""
    import pandas as pd

    keys = differing_settings(run for run in frame.runs if not run.is_model)
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
        for row in frame.rows
        for e in row.evaluations
        for metric in metrics
        if (values := e.values(metric)) is not None
    ]
    return pd.DataFrame(records)


def _note_not_finite(runs: Sequence[ReportedRun], loaded: LoadedRuns) -> None:
    named = dict.fromkeys(metric for run in runs for metric in run.record.curves.not_finite)
    for metric in dict.fromkeys(["step", *(name for name in CURVES if name in named), *named]):
        having = [run.record for run in runs if metric in run.record.curves.not_finite]
        if having:
            count = sum(record.curves.not_finite[metric] for record in having)
            what = "are no steps" if metric == "step" else "are not finite"
            loaded.note(
                f"{metric}: {count} logged values that {what} are left out of figures, in {len(having)} runs; "
                f"the first is {having[0].path}"
            )


def _rows(alike: Sequence[ComparableEvaluations], names: Mapping[tuple[str, str], str]) -> list[Row]:
    rows = []
    sampled = {(e.task, e.split, e.sampling) for group in alike for e in group.evaluations if not e.run.is_model}
    for group in alike:
        seeds: dict[str, list[Evaluation]] = {}
        for e in group.evaluations:
            seeds.setdefault(names[e.run.row], []).append(e)
        measure = group.key.measure
        for label, of_label in seeds.items():
            ordered = tuple(sorted(of_label, key=lambda e: e.run.identity.seed))
            of_trained = [each for each in sampled if each[:2] == (measure.task, measure.split)]
            told = group.sampled if ordered[0].run.is_model or len(of_trained) > 1 else ""
            rows.append(Row(label, measure.task, measure.split, ordered, group.key, group.footnote, told))
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[object, ...]:
    rank = 2 if not row.run.is_model else 1 if not row.is_base else 0
    # Numbers by size, not by spelling; a value that is a number in one run and a word in another still sorts.
    settings = tuple(
        (key, 0, float(value), "") if isinstance(value, int | float) else (key, 1, 0.0, shown(value))
        for key, value in sorted(row.run.settings.items())
    )
    split = (SPLIT_ORDER.get(row.split, len(SPLIT_ORDER)), row.split)
    measured = (row.footnote, row.key.sampling.temperature, row.key.sampling.top_p)
    return (row.task, *split, rank, row.run.method, settings, row.label, measured)
