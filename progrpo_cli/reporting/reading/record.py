"""A run as a report needs it: identity, configuration, scores and the curves it draws, whatever it was read from."""

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
"""What figures draw over steps of every run. Hardly another metric is kept: a thousand runs must fit into memory."""
_MOST_OF_A_METHOD = 32
_OF_A_METHOD = re.compile(r"([a-z][a-z0-9_]{0,39})/[A-Za-z0-9_@.-]{1,60}")
"""What names a curve, and with its first part a figure's files: a manifest may come from somebody else."""


def curve_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """``CURVES``, those that the run's method declared, and the Pass@k of whole groups under the name it is logged by.

    Args:
        config: the run's, with its identity under ``progrpo``.
    """
    train, method, identity = (config.get(name) for name in ("train", "method", "progrpo"))
    size = train.get("group_size") if isinstance(train, Mapping) else None
    declared = identity.get("curves") if isinstance(identity, Mapping) else None
    if declared is None and isinstance(method, Mapping):
        declared = default_curves(method.get("name"), with_arm=isinstance(method.get("arm"), Mapping))
    named = [name for name in declared or () if isinstance(name, str) and _OF_A_METHOD.fullmatch(name)]
    whole_group = [f"pass@{size}"] if isinstance(size, int) and 1 < size < STEPS_BELOW else []
    return tuple(dict.fromkeys([*CURVES, *named[:_MOST_OF_A_METHOD], *whole_group]))


def method_of_curve(name: str) -> str | None:
    """The first part of the name of a curve that a method declared; None: every run has it."""
    match = _OF_A_METHOD.fullmatch(name)
    return None if match is None else match[1]


@dataclass(frozen=True)
class Curves:
    """What a run logged while training."""

    steps: Ints
    """(T,) ascending, each once."""
    values: dict[str, Floats]
    """For each of :func:`curve_names` that was logged (T,), NaN where it was not logged or not finite."""
    not_finite: dict[str, int] = field(default_factory=dict)
    """How many logged values of a metric are NaN or infinite; of ``step``, how many values cannot be one."""


@dataclass(frozen=True)
class RunRecord:
    """One run of a source."""

    id: str
    name: str
    group: str | None
    """The study that the run belongs to."""
    config: dict[str, Any]
    """See :class:`progrpo_cli.tracking.tracked_run.TrackedRun`."""
    scores: dict[str, str]
    """Evaluation -> its ``scores.json`` as text."""
    curves: Curves
    status: str
    started: float
    """Seconds since 1970."""
    damaged_records: int
    path: str
    """The directory, or ``entity/project/id``, that it was read from."""
    budget: Budget | None = None
    """What training took until the last logged step; None where none was logged."""


def from_tracked(run: TrackedRun) -> RunRecord:
    """What a tracker gave back."""
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
        curves=curves_of_rows(run.history, curve_names(run.config)),
        status=run.status,
        started=run.started,
        damaged_records=run.damaged_records,
        path=run.path,
        budget=budget_of_rows(run.history),
    )


def budget_of_rows(rows: Iterable[Mapping[str, Any]]) -> Budget | None:
    """What the last of the logged steps says; None where there is no step."""
    last, at = None, -math.inf
    for row in rows:
        step = number(row.get("step"))
        if step is not None and at <= step and abs(step) < STEPS_BELOW:
            last, at = row, step
    return None if last is None else budget_of(last)


def curves_of_rows(rows: Iterable[Mapping[str, Any]], names: Sequence[str] = CURVES) -> Curves:
    """Curves of logged rows; rows without a step are those of evaluations; of rows of one step the later one wins."""
    of_step: dict[int, dict[str, float]] = {}
    no_steps = 0
    for row in rows:
        step = number(row.get("step"))
        if step is None:
            continue
        if not abs(step) < STEPS_BELOW:  # nor is NaN
            no_steps += 1
            continue
        logged = {name: value for name in names if (value := number(row.get(name))) is not None}
        of_step.setdefault(int(step), {}).update(logged)
    steps = sorted(of_step)
    columns = {}
    for name in names:
        was_logged = np.array([name in of_step[step] for step in steps], dtype=np.bool_)
        columns[name] = (np.array([of_step[step].get(name, math.nan) for step in steps]), was_logged)
    curves = curves_of_columns(np.array(steps, dtype=np.int64), columns)
    return replace(curves, not_finite={"step": no_steps, **curves.not_finite}) if no_steps else curves


def curves_of_columns(steps: Ints, columns: Mapping[str, tuple[Floats, npt.NDArray[np.bool_]]]) -> Curves:
    """Curves of ascending steps (T,) and for each metric its values (T,) and which of them were logged (T,)."""
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
    """A logged number, infinite if no float is as large; W&B writes those that are not finite as text.

    Other text and null are no number.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(str(value))
