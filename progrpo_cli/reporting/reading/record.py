"""A run as a report needs it, independent of its source: identity, configuration, scores and curves."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from progrpo_cli.methods.registry import default_curves
from progrpo_cli.records.budget import Budget, budget_of
from progrpo_cli.tracking.tracked_run import SCORES, STEPS_BELOW, TrackedRun

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CURVES = ("reward", "entropy", "pass@1")
"""Metrics drawn over the steps of every run. Few others are kept, so that a thousand runs fit into memory."""
_MAX_METHOD_CURVES = 32
_METHOD_CURVE = re.compile(r"([a-z][a-z0-9_]{0,39})/[A-Za-z0-9_@.-]{1,60}")
"""Valid names of a method's curves. The first part names a figure's files, and manifests may come from other people."""


def curve_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the curves to keep: ``CURVES``, those that the method declared, and the Pass@k of whole groups.

    Args:
        config: the run's configuration, with its identity under ``progrpo``.
    """
    train, method, identity = (config.get(name) for name in ("train", "method", "progrpo"))
    size = train.get("group_size") if isinstance(train, Mapping) else None
    declared = identity.get("curves") if isinstance(identity, Mapping) else None
    if declared is None and isinstance(method, Mapping):
        declared = default_curves(method.get("name"), with_arm=isinstance(method.get("arm"), Mapping))
    valid = [name for name in declared or () if isinstance(name, str) and _METHOD_CURVE.fullmatch(name)]
    whole_group = [f"pass@{size}"] if isinstance(size, int) and 1 < size < STEPS_BELOW else []
    return tuple(dict.fromkeys([*CURVES, *valid[:_MAX_METHOD_CURVES], *whole_group]))


def method_of_curve(name: str) -> str | None:
    """The method that declared a curve (the first part of its name); None for curves of every run."""
    match = _METHOD_CURVE.fullmatch(name)
    return None if match is None else match[1]


@dataclass(frozen=True)
class Curves:
    """Metrics that a run logged during training."""

    steps: Ints
    """(T,) ascending, without duplicates."""
    values: dict[str, Floats]
    """Logged metric -> (T,) values, NaN where it was not logged or not finite."""
    not_finite: dict[str, int] = field(default_factory=dict)
    """Metric -> number of logged values that are NaN or infinite; ``step`` -> number of invalid steps."""


@dataclass(frozen=True)
class RunRecord:
    """One run, read from a source."""

    id: str
    name: str
    group: str | None
    """The study that the run belongs to."""
    config: dict[str, Any]
    """See :class:`progrpo_cli.tracking.tracked_run.TrackedRun`."""
    scores: dict[str, str]
    """Evaluation -> text of its ``scores.json``."""
    curves: Curves
    status: str
    started: float
    """Seconds since 1970."""
    damaged_records: int
    path: str
    """The directory or ``entity/project/id`` that it was read from."""
    budget: Budget | None = None
    """Samples, tokens and time up to the last logged step; None if no step was logged."""


def from_tracked(run: TrackedRun) -> RunRecord:
    """Convert a run read back from W&B."""
    return RunRecord(
        id=run.id,
        name=run.name,
        group=run.group,
        config={name: section for name, section in run.config.items() if name != "_wandb"},
        scores={
            key.removeprefix(SCORES): text if isinstance(text, str) else ""
            for key, text in run.summary.items()
            if key.startswith(SCORES)
        },
        curves=curves_from_rows(run.history, curve_names(run.config)),
        status=run.status,
        started=run.started,
        damaged_records=run.damaged_records,
        path=run.path,
        budget=budget_from_rows(run.history),
    )


def budget_from_rows(rows: Iterable[Mapping[str, Any]]) -> Budget | None:
    """The budget at the last logged step; None if there is no step."""
    last, last_step = None, -math.inf
    for row in rows:
        step = number(row.get("step"))
        if step is not None and last_step <= step and abs(step) < STEPS_BELOW:
            last, last_step = row, step
    return None if last is None else budget_of(last)


def curves_from_rows(rows: Iterable[Mapping[str, Any]], names: Sequence[str] = CURVES) -> Curves:
    """Make curves from logged rows. Rows without a step (evaluations) are skipped; later rows of a step win."""
    by_step: dict[int, dict[str, float]] = {}
    invalid_steps = 0
    for row in rows:
        step = number(row.get("step"))
        if step is None:
            continue
        if not abs(step) < STEPS_BELOW:  # also true for NaN
            invalid_steps += 1
            continue
        logged = {name: value for name in names if (value := number(row.get(name))) is not None}
        by_step.setdefault(int(step), {}).update(logged)
    steps = sorted(by_step)
    columns = {}
    for name in names:
        was_logged = np.array([name in by_step[step] for step in steps], dtype=np.bool_)
        columns[name] = (np.array([by_step[step].get(name, math.nan) for step in steps]), was_logged)
    curves = curves_from_columns(np.array(steps, dtype=np.int64), columns)
    return replace(curves, not_finite={"step": invalid_steps, **curves.not_finite}) if invalid_steps else curves


def curves_from_columns(steps: Ints, columns: Mapping[str, tuple[Floats, npt.NDArray[np.bool_]]]) -> Curves:
    """Make curves from ascending steps (T,) and, for each metric, its values (T,) and which were logged (T,)."""
    values, not_finite = {}, {}
    for name, (column, was_logged) in columns.items():
        finite = np.isfinite(column)
        if not was_logged.any():
            continue
        values[name] = np.where(finite, column, np.nan)
        if bad := int((was_logged & ~finite).sum()):
            not_finite[name] = bad
    return Curves(steps, values, not_finite)


def number(value: object) -> float | None:
    """Convert a logged value to a float, infinite if it is too large; None for null and text.

    W&B writes NaN and infinities as the texts ``NaN``, ``Infinity`` and ``-Infinity``.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(str(value))
