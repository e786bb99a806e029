"""From the SOURCEs of ``progrpo report`` to runs: whatever they are read from, they have one shape."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from progrpo_cli.errors import RequestError
from progrpo_cli.records.files import read_lines
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tracking import wandb_offline
from progrpo_cli.tracking.tracked_run import TrackedRun

log = logging.getLogger("progrpo")

DEFAULT = "runs"
_MANIFEST = "manifest.json"
_ONLINE, _OFFLINE = "wandb:", "wandb-offline:"


@dataclass
class Found:
    """The runs of all sources, and what has to be said about reading them."""

    runs: list[TrackedRun] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    """Run id -> where it was read, e.g. ``runs (W&B files of run directories)``."""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say something on the log and in the report."""
        log.warning(text)
        self.notes.append(text)

    def add(self, run: TrackedRun, place: str) -> None:
        """Count a run once, however many sources hold it."""
        if run.id in self.origin:
            self.note(f"{run.path}: run {run.id} is in {self.origin[run.id]} already; counted once")
            return
        if run.damaged_records:
            self.note(f"{run.path}: {run.damaged_records} damaged records in the W&B files of {run.name} were left out")
        self.runs.append(run)
        self.origin[run.id] = place


def read(sources: list[str]) -> Found:
    """Read all sources; none given: everything below ``runs/``.

    Args:
        sources: run directories, directories with run directories anywhere below them (a study, ``runs``), or
            ``wandb-offline:DIR``. Directories whose name begins with a dot are left out.

    Raises:
        RequestError: a source that does not exist or is of a kind that is not supported, or none of them holds a run.
    """
    wanted = sources or [DEFAULT]
    found = Found()
    for source in wanted:
        if source.startswith(_ONLINE):
            raise RequestError(
                f"{source}: reading from a W&B server is not supported yet; use wandb-offline:DIR or a path"
            )
        offline = source.startswith(_OFFLINE)
        directory = Path(source.removeprefix(_OFFLINE))
        if not directory.is_dir():
            hint = "; `progrpo train` makes the first run" if not sources else ""
            raise RequestError(f"no runs under {directory}: no such directory{hint}")
        if offline:
            for run in wandb_offline.merge(_files(directory, ".wandb"), found.note):
                found.add(run, f"{directory} (offline W&B files)")
        else:
            for manifest in _files(directory, _MANIFEST):
                _add_run_directory(RunDirectory(manifest.parent), str(directory), found)
    if not found.runs:
        reasons = f" ({len(found.notes)} skipped, see above)" if found.notes else ""
        raise RequestError(f"no runs under {', '.join(wanted)}{reasons}; `progrpo train` and `progrpo eval` make them")
    return found


def _files(root: Path, ending: str) -> list[Path]:
    """Files below ``root`` with this ending, sorted. What lies below a manifest belongs to its run."""
    found: list[Path] = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        found.extend(Path(parent, name) for name in sorted(names) if name.endswith(ending))
        if ending == _MANIFEST in names:
            folders.clear()
    return found


def _add_run_directory(run: RunDirectory, source: str, found: Found) -> None:
    try:
        own = _own_files(run)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        found.note(f"{run.path} skipped: half-written or of another project ({type(error).__name__}: {reason})")
        return
    logged = {tracked.id: tracked for tracked in wandb_offline.read_wandb_dir(run.path / "wandb")}
    if own.id not in logged:
        found.add(own, f"{source} (files of run directories without W&B)")
        return
    complete, missing = _completed(logged[own.id], own)
    if missing:
        found.note(f"{run.path}: {missing} not in its W&B files, read from its own")
    found.add(complete, f"{source} (W&B files of run directories)")


def _own_files(run: RunDirectory) -> TrackedRun:
    """A run directory's own record, as W&B would give it back.

    Raises:
        OSError, ValueError, KeyError, TypeError, yaml.YAMLError: files are missing, damaged or not ours.
    """
    manifest = json.loads(run.manifest_path.read_text(encoding="utf-8"))
    config: dict[str, Any] = yaml.safe_load(run.config_path.read_text(encoding="utf-8"))
    config = {**config, "progrpo": run.identity()}
    return TrackedRun(
        id=manifest["wandb_run_id"],
        name=run.name,
        group=manifest["study"],
        tags=(),
        config=config,
        summary={
            f"scores/{scores.parent.name}": scores.read_text(encoding="utf-8")
            for scores in sorted(run.path.glob("eval/*/scores.json"))
        },
        history=_by_step(read_lines(run.metrics_path)),
        status=run.status(),
        started=datetime.fromisoformat(manifest["started_at"]).timestamp(),
        damaged_records=0,
        path=run.path,
    )


def _by_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({row["step"]: row for row in sorted(rows, key=lambda row: int(row["step"]))}.values())


def _completed(logged: TrackedRun, own: TrackedRun) -> tuple[TrackedRun, str]:
    """W&B's record with what it lost taken from the run directory, and in words what that was.

    A killed process loses the last second of its W&B log, and a command may have run with W&B disabled.
    """
    steps = {row["step"] for row in logged.history}
    rows = [row for row in own.history if row["step"] not in steps]
    summary = {key: text for key, text in own.summary.items() if key not in logged.summary}
    config = logged.config if "progrpo" in logged.config else own.config
    missing = [
        *(["the configuration"] if config is own.config else []),
        *([f"{len(rows)} training steps"] if rows else []),
        *([f"{len(summary)} evaluations"] if summary else []),
    ]
    complete = replace(
        logged,
        config=config,
        summary={**logged.summary, **summary},
        history=_by_step([*logged.history, *rows]),
        group=own.group,
        status=own.status,
        started=own.started,
        path=own.path,
    )
    return complete, ", ".join(missing)
