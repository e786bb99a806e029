"""Find the run directories below a directory, and recognise the directory of a study."""

from __future__ import annotations

import logging
from pathlib import Path

from progrpo_cli.errors import RequestError
from progrpo_cli.records.layout import MANIFEST, STUDY
from progrpo_cli.records.rundir import RunDirectory

log = logging.getLogger("progrpo")


def is_study(directory: Path) -> bool:
    """Whether the directory holds a study."""
    return (directory / STUDY).is_file()


def find_runs(root: Path) -> list[RunDirectory]:
    """Return all run directories below ``root``, oldest first, without those in hidden folders.

    Directories whose manifest is incomplete or another program's are left out with a warning.
    """
    runs = []
    for path in root.rglob(MANIFEST):
        run = RunDirectory(path.parent)
        if run.exists and not any(part.startswith(".") for part in path.relative_to(root).parts):
            try:
                runs.append((run.manifest()["started_at"], run.name, run))
            except RequestError as error:
                log.warning(f"left out: {error}")
    return [run for _, _, run in sorted(runs, key=lambda entry: entry[:2])]
