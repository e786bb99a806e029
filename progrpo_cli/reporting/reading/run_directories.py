"""Run directories as records: their own files alone, which hold everything that any tracker was sent."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from progrpo_cli.records.budget import Budget
from progrpo_cli.records.files import read_lines
from progrpo_cli.records.identity import identity_of
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.reporting.reading.parallel import Helper
from progrpo_cli.reporting.reading.record import (
    CURVES,
    Curves,
    Floats,
    RunRecord,
    budget_of_rows,
    curve_names,
    curves_of_columns,
    curves_of_rows,
)
from progrpo_cli.tracking.tracked_run import STEPS_BELOW

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster, where PyYAML was built with it
_LAST_BYTES = 2**16
_AT_ONCE = 10
"""Runs a job: so few that two processes end at about the same time."""


def read(directories: list[Path], helper: Helper) -> Iterator[RunRecord | str]:
    """For each directory its record, or a line that says why there is none; in their order."""
    helper.start(len(directories))
    shares = [directories[first : first + _AT_ONCE] for first in range(0, len(directories), _AT_ONCE)]
    for records in helper.begin(partial(_read_all, share) for share in shares)():
        yield from records


def _read_all(directories: list[Path]) -> list[RunRecord | str]:
    return [_read_or_say_why(directory) for directory in directories]


def _read_or_say_why(directory: Path) -> RunRecord | str:
    try:
        return _read(RunDirectory(directory))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        return f"{directory} skipped: half-written or of another project ({type(error).__name__}: {reason})"


def _read(run: RunDirectory) -> RunRecord:
    manifest = json.loads(run.manifest_path.read_text(encoding="utf-8"))
    if not isinstance(manifest["wandb_run_id"], str):
        raise TypeError("wandb_run_id in manifest.json is not text")
    frozen: dict[str, Any] = yaml.load(run.config_path.read_text(encoding="utf-8"), Loader=_Loader)
    config = {**frozen, "progrpo": identity_of(manifest, run.name)}
    return RunRecord(
        id=manifest["wandb_run_id"],
        name=run.name,
        group=manifest["study"],
        config=config,
        scores={scores.parent.name: scores.read_text(encoding="utf-8") for scores in run.scores_files()},
        curves=read_curves(run.metrics_path, curve_names(config)),
        status=run.status() if manifest["status"] == "running" else manifest["status"],
        started=datetime.fromisoformat(manifest["started_at"]).timestamp(),
        damaged_records=0,
        path=str(run.path),
        budget=_budget(run.metrics_path),
    )


def _budget(path: Path) -> Budget | None:
    """What the last complete line says; a longer file is not read for it."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        *_, last, _ = [b"", *file.read().split(b"\n")]
    try:
        return budget_of_rows([json.loads(last)])
    except (ValueError, AttributeError):  # too long, cut or no object
        return None


def read_curves(path: Path, names: tuple[str, ...] = CURVES) -> Curves:
    """The curves of a ``metrics.jsonl`` that have these names.

    Raises:
        ValueError: a line other than the last, which a crash may have cut, is no JSON.
    """
    numbers = _numbers(path.read_bytes(), names) if path.exists() else None
    if numbers is None:
        return curves_of_rows(read_lines(path), names)
    steps, *columns = numbers.T
    logged = {name: (column, ~np.isnan(column)) for name, column in zip(names, columns, strict=True)}
    return curves_of_columns(steps.astype(np.int64), logged)


def _numbers(lines: bytes, names: tuple[str, ...]) -> Floats | None:
    """Each line's step and the ``names`` (T, 1 + C), steps ascending; None if some line must be looked at on its own.

    That is one that was cut, has NaN or text where a number should be, or a step that is out of order or no step.
    """
    try:
        read = _line_decoder(names).decode_lines(lines)
        flat = np.fromiter(chain.from_iterable(map(msgspec.structs.astuple, read)), np.float64)
    except (msgspec.MsgspecError, OverflowError):
        return None
    numbers = flat.reshape(-1, 1 + len(names))
    steps = numbers[:, 0]
    return numbers if (np.diff(steps) > 0).all() and (np.abs(steps) < STEPS_BELOW).all() else None


@cache
def _line_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """What reads a line's step and the ``names``, in this order; NaN, which JSON has not, stands for none."""
    fields = {f"curve_{number}": name for number, name in enumerate(names)}
    numbers = [(field, float, math.nan) for field in fields]
    return msgspec.json.Decoder(msgspec.defstruct("Line", [("step", int), *numbers], rename=fields, gc=False))
