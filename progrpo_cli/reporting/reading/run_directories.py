"""Read run directories as records, from their own files only: they hold everything that trackers receive."""

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

from progrpo_cli.config import plain_yaml
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
    budget_from_rows,
    curve_names,
    curves_from_columns,
    curves_from_rows,
)
from progrpo_cli.tracking.tracked_run import STEPS_BELOW
from progrpo_cli.untrusted import MEDIUM, METRICS, open_regular, read_bytes, read_text

_TAIL_BYTES = 2**16
_RUNS_PER_JOB = 10
"""Few enough that two processes end at about the same time."""


def read(directories: list[Path], helper: Helper) -> Iterator[RunRecord | str]:
    """Yield, in order, the record of each directory or a message that says why it was skipped."""
    helper.start(len(directories))
    chunks = [directories[first : first + _RUNS_PER_JOB] for first in range(0, len(directories), _RUNS_PER_JOB)]
    for records in helper.begin(partial(_read_all, chunk) for chunk in chunks)():
        yield from records


def _read_all(directories: list[Path]) -> list[RunRecord | str]:
    return [_read_or_explain(directory) for directory in directories]


def _read_or_explain(directory: Path) -> RunRecord | str:
    try:
        return _read(RunDirectory(directory))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        return f"{directory} skipped: half-written or of another project ({type(error).__name__}: {reason})"


def _read(run: RunDirectory) -> RunRecord:
    manifest = json.loads(read_text(run.manifest_path))
    if not isinstance(manifest["wandb_run_id"], str):
        raise TypeError("wandb_run_id in manifest.json is not text")
    frozen: dict[str, Any] = plain_yaml.parse(read_text(run.config_path))
    config = {**frozen, "progrpo": identity_of(manifest, run.name)}
    return RunRecord(
        id=manifest["wandb_run_id"],
        name=run.name,
        group=manifest["study"],
        config=config,
        scores={scores.parent.name: read_text(scores, MEDIUM) for scores in run.scores_files()},
        curves=read_curves(run.metrics_path, curve_names(config)),
        status=run.status() if manifest["status"] == "running" else manifest["status"],
        started=datetime.fromisoformat(manifest["started_at"]).timestamp(),
        damaged_records=0,
        path=str(run.path),
        budget=_budget(run.metrics_path),
    )


def _budget(path: Path) -> Budget | None:
    """The budget in the last complete line; only the end of the file is read."""
    if not path.exists():
        return None
    with open_regular(path, METRICS) as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        *_, last, _ = [b"", *file.read().split(b"\n")]
    try:
        return budget_from_rows([json.loads(last)])
    except (ValueError, AttributeError):  # the line is too long, cut, or not an object
        return None


def read_curves(path: Path, names: tuple[str, ...] = CURVES) -> Curves:
    """Read the curves with these names from a ``metrics.jsonl``. A crash may have cut its last line.

    Raises:
        ValueError: another line is not JSON.
    """
    numbers = _decode_numbers(read_bytes(path, METRICS), names) if path.exists() else None
    if numbers is None:
        return curves_from_rows(read_lines(path), names)
    steps, *columns = numbers.T
    logged = {name: (column, ~np.isnan(column)) for name, column in zip(names, columns, strict=True)}
    return curves_from_columns(steps.astype(np.int64), logged)


def _decode_numbers(lines: bytes, names: tuple[str, ...]) -> Floats | None:
    """The step and the values of ``names`` of each line (T, 1 + C), steps ascending.

    None if the lines need the slower reader: one is cut, has NaN or text instead of a number, or an invalid or
    unordered step.
    """
    try:
        decoded = _line_decoder(names).decode_lines(lines)
        flat = np.fromiter(chain.from_iterable(map(msgspec.structs.astuple, decoded)), np.float64)
    except (msgspec.MsgspecError, OverflowError):
        return None
    numbers = flat.reshape(-1, 1 + len(names))
    steps = numbers[:, 0]
    return numbers if (np.diff(steps) > 0).all() and (np.abs(steps) < STEPS_BELOW).all() else None


@cache
def _line_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """A decoder of a line's step and the values of ``names``, in this order; a missing value becomes NaN."""
    fields = {f"curve_{number}": name for number, name in enumerate(names)}
    numbers = [(field, float, math.nan) for field in fields]
    return msgspec.json.Decoder(msgspec.defstruct("Line", [("step", int), *numbers], rename=fields, gc=False))
