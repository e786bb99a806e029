"""Run directories as records: their own files alone, which hold everything that any tracker was sent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from progrpo_cli.records.files import read_lines
from progrpo_cli.records.rundir import RunDirectory, identity_of
from progrpo_cli.reporting.record import CURVES, Curves, RunRecord, curves_of_columns, curves_of_rows

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster, where PyYAML was built with it


_BLOCK = 1 << 24
"""Bytes read at once: nearly every file in one piece, for files are what is read side by side."""


def read(directories: list[Path]) -> Iterator[RunRecord | str]:
    """For each directory its record, or a line that says why there is none; in their order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # most of the time goes into reading JSON outside of Python
        yield from pool.map(_read_or_say_why, directories)


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
    config: dict[str, Any] = yaml.load(run.config_path.read_text(encoding="utf-8"), Loader=_Loader)
    return RunRecord(
        id=manifest["wandb_run_id"],
        name=run.name,
        group=manifest["study"],
        config={**config, "progrpo": identity_of(manifest, run.name)},
        scores={
            scores.parent.name: scores.read_text(encoding="utf-8")
            for scores in sorted(run.path.glob("eval/*/scores.json"))
        },
        curves=read_curves(run.metrics_path),
        status=run.status() if manifest["status"] == "running" else manifest["status"],
        started=datetime.fromisoformat(manifest["started_at"]).timestamp(),
        damaged_records=0,
        path=str(run.path),
    )


def read_curves(path: Path) -> Curves:
    """The curves of a ``metrics.jsonl``.

    Raises:
        ValueError: a line other than the last, which a crash may have cut, is no JSON.
    """
    import pyarrow as pa
    import pyarrow.json

    if not path.exists() or not path.stat().st_size:
        return curves_of_rows([])
    wanted = pa.schema([("step", pa.int64()), *((name, pa.float64()) for name in CURVES)])
    whole = pyarrow.json.ReadOptions(use_threads=False, block_size=_BLOCK)
    options = pyarrow.json.ParseOptions(explicit_schema=wanted, unexpected_field_behavior="ignore")
    try:
        table = pyarrow.json.read_json(path, whole, options)
    except pa.ArrowInvalid:  # a line that was cut, or text where a number should be: slowly, and with a name for it
        return curves_of_rows(read_lines(path))
    steps = table["step"].to_numpy()
    if table["step"].null_count or (steps[1:] <= steps[:-1]).any():
        return curves_of_rows(table.to_pylist())
    columns = {name: (table[name].to_numpy(), ~table[name].is_null().to_numpy()) for name in CURVES}
    return curves_of_columns(steps, columns)
