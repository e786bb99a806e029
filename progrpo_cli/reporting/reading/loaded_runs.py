"""What reading the sources gave, and what has to be said about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from progrpo_cli import escape
from progrpo_cli.reporting.reading.record import RunRecord

log = logging.getLogger("progrpo")


@dataclass
class LoadedRuns:
    """The runs of all sources, and notes."""

    runs: list[RunRecord] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    """Run id -> where it was read, e.g. ``runs (run directories)``."""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say something on the log and in the report; names in it are untrusted, and the log goes to a terminal."""
        safe = escape.plain(text)
        log.warning(safe)
        self.notes.append(safe)

    def add(self, run: RunRecord, place: str) -> None:
        """Count a run once, however many sources hold it."""
        if run.id in self.origin:
            self.note(f"{run.path}: run {run.id} is in {self.origin[run.id]} already; counted once")
            return
        if run.damaged_records:
            self.note(f"{run.path}: {run.damaged_records} damaged records in the W&B files of {run.name} were left out")
        self.runs.append(run)
        self.origin[run.id] = place
