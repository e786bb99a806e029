"""From runs to evaluations that can be compared: who was measured (rows), on what (task, split), with which counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError

from progrpo_cli.config.hashing import is_hashed
from progrpo_cli.errors import WorkError
from progrpo_cli.metrics.passk import pass_at_k_per_problem
from progrpo_cli.reporting.sources import Found
from progrpo_cli.tracking.tracked_run import TrackedRun

Floats = npt.NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]

# What trackers keep beside the configuration.
_BESIDE = ("progrpo", "_wandb")


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
    scored_at: str = ""


class _Identity(BaseModel):
    """The ``progrpo`` part of a run's configuration."""

    kind: Annotated[str, Field(pattern="^(run|model)$")]
    config_hash: str
    seed: int
    version: str
    commit: str | None
    directory: str
    model: str


@dataclass(frozen=True)
class ReportedRun:
    """A run whose identity is known."""

    tracked: TrackedRun
    identity: _Identity
    method: str
    """The method's name; for a model that is no run of ours its own name."""
    settings: dict[str, Any]
    """Flat, ``{"method.arm.alpha": 0.3}``: what can change a number, without the seed. Empty for a model."""

    @property
    def row(self) -> tuple[str, str]:
        """Runs with the same one are seeds of the same thing."""
        return (self.method, self.identity.config_hash)


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
    problem_ids: tuple[str, ...]
    """(P,) sorted; everything below is in this order."""
    drawn: npt.NDArray[np.int64]
    correct: npt.NDArray[np.int64]
    entropy: Floats | None
    distinct_correct: Floats | None
    scored_at: str

    @property
    def conditions(self) -> dict[str, object]:
        """What must agree before two evaluations may stand in one column."""
        return {
            "n": self.n,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
            "problems": self.problem_ids,
        }

    def values(self, metric: str) -> Floats | None:
        """(P,) of ``pass@K``, ``entropy`` (nats) or ``distinct_correct``; None where it was not measured."""
        if metric == "entropy":
            return self.entropy
        if metric == "distinct_correct":
            return self.distinct_correct
        k = int(metric.removeprefix("pass@"))
        return pass_at_k_per_problem(self.drawn, self.correct, k) if k <= self.n else None


@dataclass(frozen=True)
class Row:
    """The seeds of one method and configuration, or a model, on one task and split."""

    label: str
    task: str
    split: str
    evaluations: tuple[Evaluation, ...]
    """One a seed, ascending."""

    @property
    def run(self) -> ReportedRun:
        """The first seed's run: all of them have the same method and settings."""
        return self.evaluations[0].run

    def values(self, metric: str) -> Floats | None:
        """(S, P); None unless every seed has the metric."""
        per_seed = [values for e in self.evaluations if (values := e.values(metric)) is not None]
        return np.stack(per_seed) if len(per_seed) == len(self.evaluations) else None


@dataclass(frozen=True)
class Frame:
    """Everything a report is made from."""

    rows: list[Row]
    """By task, split (test first), and within: base, other models, methods."""
    runs: list[ReportedRun]
    """All runs of ours that were found, those without evaluations too."""
    used: dict[str, list[str]]
    """Run id -> its evaluations that are in ``rows``."""


def build(found: Found) -> Frame:
    """Make the frame; what is left out goes to ``found.notes``.

    Raises:
        WorkError: evaluations that would stand in one column differ in n, temperature, top-p, length limit or problems.
    """
    runs = [run for tracked in found.runs if (run := _identify(tracked, found)) is not None]
    evaluations: list[Evaluation] = []
    for run in runs:
        of_run = _evaluations(run, found)
        if not of_run:
            found.note(
                f"{run.tracked.path}: {run.tracked.name} ({run.tracked.status}) has no scores and is left out; "
                "`progrpo eval` makes them"
            )
        elif run.tracked.status not in ("finished", "unknown"):
            found.note(f"{run.tracked.path}: {run.tracked.name} has scores although its status is {run.tracked.status}")
        evaluations.extend(of_run)
    _refuse_mixed(evaluations)
    evaluations = _newest(evaluations, found)
    rows = _rows(evaluations, _labels(evaluations))
    used: dict[str, list[str]] = {run.tracked.id: [] for run in runs}
    for evaluation in evaluations:
        used[evaluation.run.tracked.id].append(f"{evaluation.key} ({evaluation.split})")
    return Frame(rows, runs, used)


def differing_settings(runs: Iterable[ReportedRun]) -> list[str]:
    """The configuration keys, sorted, that do not have the same value in all of these runs."""
    settings = [run.settings for run in runs]
    keys = sorted({key for held in settings for key in held})
    return [key for key in keys if len({comparable(held.get(key)) for held in settings}) > 1]


def shown(value: object) -> str:
    """A configuration value as labels and tables show it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if not isinstance(value, int | float):
        return str(value)
    short = f"{value:g}"  # 0.0002 rather than 2e-04, but never another number
    return short if float(short) == value else str(value)


def _identify(tracked: TrackedRun, found: Found) -> ReportedRun | None:
    if "progrpo" not in tracked.config:
        found.note(f"{tracked.path} skipped: run {tracked.name} is of another project, or its configuration was lost")
        return None
    try:
        identity = _Identity.model_validate(tracked.config["progrpo"])
        method = identity.model if identity.kind == "model" else str(tracked.config["method"]["name"])
    except (ValidationError, KeyError, TypeError) as error:
        found.note(f"{tracked.path} skipped: the record of run {tracked.name} is incomplete ({_first(error)})")
        return None
    configuration = {name: value for name, value in tracked.config.items() if name not in _BESIDE}
    settings = {key: value for key, value in _flat(configuration, "") if is_hashed(key)}
    return ReportedRun(tracked, identity, method, settings if identity.kind == "run" else {})


def _flat(section: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def comparable(value: object) -> str:
    """W&B may give 1 back for 1.0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return json.dumps(value, sort_keys=True, default=str)


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}"


def _evaluations(run: ReportedRun, found: Found) -> list[Evaluation]:
    evaluations = []
    for key, text in sorted(run.tracked.summary.items()):
        if not key.startswith("scores/"):
            continue
        try:
            evaluations.append(_evaluation(run, key.removeprefix("scores/"), text))
        except (ValidationError, ValueError, TypeError) as error:
            found.note(f"{run.tracked.path}: {key} of {run.tracked.name} left out ({_first(error)})")
    return evaluations


def _evaluation(run: ReportedRun, key: str, text: str) -> Evaluation:
    scores = _Scores.model_validate_json(text)
    ids = [str(problem) for problem, _, _ in scores.counts]
    drawn = np.array([n for _, n, _ in scores.counts], dtype=np.int64)
    correct = np.array([right for _, _, right in scores.counts], dtype=np.int64)
    if len(set(ids)) != len(ids) or (drawn != scores.n).any() or (correct < 0).any() or (correct > drawn).any():
        raise ValueError("counts contradict themselves: ids twice, another n, or more correct than drawn")
    order = sorted(range(len(ids)), key=ids.__getitem__)
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
        problem_ids=tuple(ids[index] for index in order),
        drawn=drawn[order],
        correct=correct[order],
        entropy=_aligned(scores.per_problem, scores.per_problem.entropy, ids, order),
        distinct_correct=_aligned(scores.per_problem, scores.per_problem.distinct_correct, ids, order),
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


def _refuse_mixed(evaluations: list[Evaluation]) -> None:
    for task, split in sorted({(e.task, e.split) for e in evaluations}):
        column = [e for e in evaluations if (e.task, e.split) == (task, split)]
        for condition in column[0].conditions:
            runs_with: dict[object, list[str]] = {}
            for e in column:
                runs_with.setdefault(e.conditions[condition], []).append(e.run.tracked.name)
            if len(runs_with) > 1:
                described = "; ".join(f"{_briefly(value)} in {_some(names)}" for value, names in runs_with.items())
                raise WorkError(
                    f"{task} ({split}): evaluations with different {condition} cannot share a column: {described}; "
                    "evaluate them alike, or name the runs to report"
                )


def _briefly(value: object) -> str:
    return f"{len(value)} problems" if isinstance(value, tuple) else str(value)


def _some(names: list[str]) -> str:
    unique = sorted(set(names))
    return ", ".join(unique[:4]) + (f" and {len(unique) - 4} more" if len(unique) > 4 else "")


def _newest(evaluations: list[Evaluation], found: Found) -> list[Evaluation]:
    """One evaluation for each policy, task and split: pooling a policy with itself would count a seed twice."""
    kept: dict[tuple[object, ...], Evaluation] = {}
    for e in sorted(evaluations, key=lambda e: (e.scored_at, e.run.tracked.started, e.run.tracked.id, e.key)):
        # Of a model there is one, whatever it was sampled with; its seed is that of the sampling, not of a training.
        is_run = e.run.identity.kind == "run"
        policy = (e.run.row, e.run.identity.seed) if is_run else e.run.method
        same = (policy, e.task, e.split)
        older = kept.get(same)
        if older is not None:
            found.note(
                f"{older.run.tracked.name}: {older.key} ({older.split}) left out; the same configuration, seed and "
                f"sampling were measured again in {e.run.tracked.name}: {e.key}"
            )
        kept[same] = e
    return list(kept.values())


def _labels(evaluations: list[Evaluation]) -> dict[tuple[str, str], str]:
    """Row -> its label: the method's name, with the keys that differ where one method has several configurations."""
    runs = {e.run.row: e.run for e in evaluations}
    started_from = {run.settings.get("model.path") for run in runs.values() if run.identity.kind == "run"}
    methods = {run.method for run in runs.values() if run.identity.kind == "run"}
    labels = {}
    for row, run in runs.items():
        if run.identity.kind == "model":
            name = f"{run.method} (model)" if run.method in methods else run.method
            is_base = run.identity.model in started_from
            labels[row] = name if not is_base else "base" if len(started_from) == 1 else f"base ({name})"
            continue
        same_method = [other for other in runs.values() if (other.identity.kind, other.method) == ("run", run.method)]
        details = [f"{key}={shown(run.settings.get(key))}" for key in differing_settings(same_method)]
        if len(same_method) > 1 and not details:  # e.g. a key that an older version of ours did not have
            details = [f"configuration {run.identity.config_hash}"]
        labels[row] = f"{run.method} ({', '.join(details)})" if details else run.method
    return labels


def _rows(evaluations: list[Evaluation], labels: Mapping[tuple[str, str], str]) -> list[Row]:
    grouped: dict[tuple[str, str, str], list[Evaluation]] = {}
    for e in evaluations:
        grouped.setdefault((labels[e.run.row], e.task, e.split), []).append(e)
    rows = [
        Row(label, task, split, tuple(sorted(seeds, key=lambda e: e.run.identity.seed)))
        for (label, task, split), seeds in grouped.items()
    ]
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[object, ...]:
    run = row.run
    rank = 2 if run.identity.kind == "run" else 1 if not row.label.startswith("base") else 0
    # Numbers by size, not by spelling; a value that is a number in one run and a word in another still sorts.
    settings = tuple(
        (key, 0, float(value), "") if isinstance(value, int | float) else (key, 1, 0.0, shown(value))
        for key, value in sorted(run.settings.items())
    )
    return (row.task, row.split != "test", row.split, rank, run.method, settings, row.label)
