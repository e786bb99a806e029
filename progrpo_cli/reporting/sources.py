"""From the SOURCEs of ``progrpo report`` to runs: whatever they are read from, they have one shape."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from progrpo_cli.errors import RequestError
from progrpo_cli.reporting import run_directories, wandb_files
from progrpo_cli.reporting.record import RunRecord

log = logging.getLogger("progrpo")

DEFAULT = "runs"
_MANIFEST = "manifest.json"
_ONLINE, _OFFLINE = "wandb:", "wandb-offline:"


@dataclass
class Found:
    """The runs of all sources, and what has to be said about reading them."""

    runs: list[RunRecord] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    """Run id -> where it was read, e.g. ``runs (run directories)``."""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say something on the log and in the report."""
        log.warning(text)
        self.notes.append(text)

    def add(self, run: RunRecord, place: str) -> None:
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
            records, skipped = wandb_files.read(_files(directory, ".wandb"))
            for line in skipped:
                found.note(line)
            _add(found, records, f"{directory} (offline W&B files)")
        else:
            manifests = _files(directory, _MANIFEST)
            read_from = run_directories.read([manifest.parent for manifest in manifests])
            _add(found, read_from, f"{directory} (run directories)")
    if not found.runs:
        reasons = f" ({len(found.notes)} skipped, see above)" if found.notes else ""
        raise RequestError(f"no runs under {', '.join(wanted)}{reasons}; `progrpo train` and `progrpo eval` make them")
    return found


def _add(found: Found, records: Iterable[RunRecord | str], place: str) -> None:
    for record in records:
        if isinstance(record, str):
            found.note(record)
        else:
            found.add(record, place)


def _files(root: Path, ending: str) -> list[Path]:
    """Files below ``root`` with this ending, sorted. What lies below a manifest belongs to its run."""
    found: list[Path] = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        found.extend(Path(parent, name) for name in sorted(names) if name.endswith(ending))
        if ending == _MANIFEST in names:
            folders.clear()
    return found
