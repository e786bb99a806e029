"""The runs below a directory, and whether it is a study's."""

from __future__ import annotations

import logging
from pathlib import Path

from progrpo_cli.errors import RequestError
from progrpo_cli.records.layout import MANIFEST, STUDY
from progrpo_cli.records.rundir import RunDirectory

log = logging.getLogger("progrpo")


def is_study(directory: Path) -> bool:
    """Whether there is a study in the directory."""
    return (directory / STUDY).is_file()


def find_runs(root: Path) -> list[RunDirectory]:
    """All run directories below ``root``, oldest first; folders whose name begins with a dot are left out.

    So are those whose manifest is half-written or another program's, with a warning each.
    """
    found = []
    for path in root.rglob(MANIFEST):
        run = RunDirectory(path.parent)
        if run.exists and not any(part.startswith(".") for part in path.relative_to(root).parts):
            try:
                found.append((run.manifest()["started_at"], run.name, run))
            except RequestError as error:
                log.warning(f"left out: {error}")
    return [run for _, _, run in sorted(found, key=lambda each: each[:2])]
