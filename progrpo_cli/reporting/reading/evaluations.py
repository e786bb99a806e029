"""Read ``scores.json`` into counts that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from progrpo_cli.evaluation.scores_file import Measure, PerProblem, Sampling, Scores, short_error
from progrpo_cli.metrics.passk import pass_at_k_per_problem
from progrpo_cli.reporting.reading.identity import ReportedRun
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.reading.record import Floats, Ints


@dataclass(frozen=True)
class Evaluation:
    """The counts of one policy's samples on one task."""

    run: ReportedRun
    key: str
    """Name of the evaluation directory."""
    task: str
    split: str
    measure: Measure
    """How it was measured. ``measure`` and ``sampling`` must agree before numbers are pooled or subtracted."""
    sampling: Sampling
    n: int
    ks: tuple[int, ...]
    problem_ids: tuple[str, ...]
    """(P,) sorted; the arrays below are in this order."""
    drawn: Ints
    correct: Ints
    entropy: Floats | None
    distinct_correct: Floats | None
    scored_at: str

    def values(self, metric: str) -> Floats | None:
        """(P,) values of ``pass@K``, ``entropy`` (nats) or ``distinct_correct``; None if it was not measured."""
        if metric == "entropy":
            return self.entropy
        if metric == "distinct_correct":
            return self.distinct_correct
        k = int(metric.removeprefix("pass@"))
        return pass_at_k_per_problem(self.drawn, self.correct, k) if k <= self.n else None


def read_evaluations(run: ReportedRun, loaded: LoadedRuns) -> list[Evaluation]:
    """Read the evaluations of a run. Damaged scores are left out with a note."""
    evaluations = []
    for key, text in sorted(run.record.scores.items()):
        try:
            evaluations.append(_parse(run, key, text))
        except (ValidationError, ValueError, TypeError, OverflowError) as error:
            loaded.note(f"{run.record.path}: scores/{key} of {run.record.name} left out ({short_error(error)})")
    return evaluations


def _parse(run: ReportedRun, key: str, text: str) -> Evaluation:
    scores = Scores.model_validate_json(text)
    ids = [str(problem) for problem, _, _ in scores.counts]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return Evaluation(
        run=run,
        key=key,
        task=scores.task,
        split=scores.split,
        measure=scores.key.measure,
        sampling=scores.key.sampling,
        n=scores.n,
        ks=tuple(k for k in scores.k if k <= scores.n),
        problem_ids=tuple(ids[index] for index in order),
        drawn=np.array([n for _, n, _ in scores.counts], dtype=np.int64)[order],
        correct=np.array([correct for _, _, correct in scores.counts], dtype=np.int64)[order],
        entropy=_align(scores.per_problem, scores.per_problem.entropy, ids, order),
        distinct_correct=_align(scores.per_problem, scores.per_problem.distinct_correct, ids, order),
        scored_at=scores.scored_at,
    )


def _align(table: PerProblem, values: Sequence[float | None] | None, ids: list[str], order: list[int]) -> Floats | None:
    """The values in the order of sorted ids, (P,); None if any value is missing."""
    if values is None or any(value is None for value in values):
        return None
    by_problem = dict(zip(map(str, table.problem_id), values, strict=True))
    return np.array([by_problem[ids[index]] for index in order], dtype=np.float64)
