"""From ``scores.json`` to counts that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from progrpo_cli.metrics.passk import pass_at_k_per_problem
from progrpo_cli.reporting.found import Found
from progrpo_cli.reporting.identity import ReportedRun, first_error
from progrpo_cli.reporting.record import Floats, Ints

Finite = Annotated[float, Field(allow_inf_nan=False)]
CONDITIONS = ("n", "temperature", "top_p", "max_new_tokens", "task_version", "problem_ids")
"""What must agree before two evaluations of a task and split may stand in one column."""


class _PerProblem(BaseModel):
    problem_id: list[str | int]
    entropy: list[Finite | None]
    distinct_correct: list[Finite | None] | None


class _Scores(BaseModel):
    """What a report needs of ``scores.json``; further fields are allowed."""

    task: str
    split: str
    n: Annotated[int, Field(ge=1)]
    k: list[Annotated[int, Field(ge=1)]]
    counts: Annotated[list[tuple[str | int, int, int]], Field(min_length=1)]
    per_problem: _PerProblem
    temperature: Finite
    top_p: Finite
    max_new_tokens: int
    task_version: str | None = None
    """Files of before it was written have none, and are of another version than those that have one."""
    scored_at: str = ""


@dataclass(frozen=True)
class Evaluation:
    """One policy's samples on one task, counted."""

    run: ReportedRun
    key: str
    """The evaluation directory's name."""
    task: str
    split: str
    n: int
    ks: tuple[int, ...]
    temperature: float
    top_p: float
    max_new_tokens: int
    task_version: str | None
    problem_ids: tuple[str, ...]
    """(P,) sorted; everything below is in this order."""
    drawn: Ints
    correct: Ints
    entropy: Floats | None
    distinct_correct: Floats | None
    scored_at: str

    @property
    def conditions(self) -> tuple[object, ...]:
        """The values of ``CONDITIONS``."""
        return tuple(getattr(self, name) for name in CONDITIONS)

    def values(self, metric: str) -> Floats | None:
        """(P,) of ``pass@K``, ``entropy`` (nats) or ``distinct_correct``; None where it was not measured."""
        if metric == "entropy":
            return self.entropy
        if metric == "distinct_correct":
            return self.distinct_correct
        k = int(metric.removeprefix("pass@"))
        return pass_at_k_per_problem(self.drawn, self.correct, k) if k <= self.n else None


def evaluations_of(run: ReportedRun, found: Found) -> list[Evaluation]:
    """The evaluations of a run; those whose scores are damaged or not finite are left out with a note."""
    evaluations = []
    for key, text in sorted(run.record.scores.items()):
        try:
            evaluations.append(_evaluation(run, key, text))
        except (ValidationError, ValueError, TypeError, OverflowError) as error:
            found.note(f"{run.record.path}: scores/{key} of {run.record.name} left out ({first_error(error)})")
    return evaluations


def _evaluation(run: ReportedRun, key: str, text: str) -> Evaluation:
    scores = _Scores.model_validate_json(text)
    ids = [str(problem) for problem, _, _ in scores.counts]
    drawn = np.array([n for _, n, _ in scores.counts], dtype=np.int64)
    correct = np.array([right for _, _, right in scores.counts], dtype=np.int64)
    if len(set(ids)) != len(ids) or (drawn != scores.n).any() or (correct < 0).any() or (correct > drawn).any():
        raise ValueError("counts contradict themselves: ids twice, another n, or more correct than drawn")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    distinct = _aligned(scores.per_problem, scores.per_problem.distinct_correct, ids, order)
    if distinct is not None and not ((distinct >= 0) & (distinct <= scores.n)).all():
        raise ValueError("distinct_correct contradicts n: below 0, or more than were drawn")
    return Evaluation(
        run=run,
        key=key,
        task=scores.task,
        split=scores.split,
        n=scores.n,
        ks=tuple(k for k in scores.k if k <= scores.n),
        temperature=scores.temperature,
        top_p=scores.top_p,
        max_new_tokens=scores.max_new_tokens,
        task_version=scores.task_version,
        problem_ids=tuple(ids[index] for index in order),
        drawn=drawn[order],
        correct=correct[order],
        entropy=_aligned(scores.per_problem, scores.per_problem.entropy, ids, order),
        distinct_correct=distinct,
        scored_at=scores.scored_at,
    )


def _aligned(
    table: _PerProblem, values: Sequence[float | None] | None, ids: list[str], order: list[int]
) -> Floats | None:
    if values is None or any(value is None for value in values):
        return None
    if len(values) != len(table.problem_id):
        raise ValueError("per_problem has columns of different lengths")
    of_problem = dict(zip(map(str, table.problem_id), values, strict=True))
    if of_problem.keys() != set(ids):
        raise ValueError("per_problem and counts are about different problems")
    return np.array([of_problem[ids[index]] for index in order], dtype=np.float64)
