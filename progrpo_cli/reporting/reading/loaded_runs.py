"""The runs read from the sources of a report, with notes about them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from progrpo_cli import escape
from progrpo_cli.reporting.reading.record import RunRecord

log = logging.getLogger("progrpo")


@dataclass
class LoadedRuns:
    """The runs of all sources and notes about reading them."""

    runs: list[RunRecord] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    """Run id -> its source, e.g. ``runs (run directories)``."""
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Log a warning and add it to the report's notes. Names in it are untrusted, so the text is escaped."""
        safe = escape.plain(text)
        log.warning(safe)
        self.notes.append(safe)

    def add(self, run: RunRecord, place: str) -> None:
        """Add a run unless an earlier source already has it."""
        if run.id in self.origin:
            self.note(f"{run.path}: run {run.id} was already read from {self.origin[run.id]}; counted once")
            return
        if run.damaged_records:
            self.note(f"{run.path}: {run.damaged_records} damaged records in the W&B files of {run.name} were left out")
        self.runs.append(run)
        self.origin[run.id] = place
