"""Read the runs of all SOURCEs of ``progrpo report`` as records of one type."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from progrpo_cli.errors import RequestError
from progrpo_cli.records.layout import MANIFEST
from progrpo_cli.reporting.reading import run_directories, wandb_files, wandb_online
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.reading.parallel import Helper
from progrpo_cli.reporting.reading.record import RunRecord, from_tracked
from progrpo_cli.tracking import wandb_server

DEFAULT = "runs"
_ONLINE, _OFFLINE = "wandb:", "wandb-offline:"


def read(sources: list[str], *, offline: bool = False, helper: Helper | None = None) -> LoadedRuns:
    """Read the runs of all sources.

    Args:
        sources: run directories, directories with run directories anywhere below them (a study, ``runs``),
            ``wandb-offline:DIR``, or ``wandb:ENTITY/PROJECT`` (see :mod:`progrpo_cli.reporting.reading.wandb_online`).
            Directories whose names begin with a dot are left out. Empty: everything below ``runs/``.
        offline: contact no server; read runs fetched earlier from the cache.
        helper: a second process that reads run directories too; None: none.

    Raises:
        RequestError: a source does not exist or has the wrong form, or no source has a run.
        WorkError: a W&B server does not answer.
    """
    wanted = sources or [DEFAULT]
    loaded = LoadedRuns()
    for source in wanted:
        if source.startswith(_ONLINE):
            query = wandb_online.parse(source.removeprefix(_ONLINE))
            runs = wandb_server.read_cache(query) if offline else wandb_server.fetch(query)
            _add(loaded, map(from_tracked, runs), f"{source} (W&B{', from the cache' if offline else ''})")
            continue
        from_files = source.startswith(_OFFLINE)
        directory = Path(source.removeprefix(_OFFLINE))
        if not directory.is_dir():
            hint = "; `progrpo train` makes the first run" if not sources else ""
            raise RequestError(f"no runs under {directory}: no such directory{hint}")
        if from_files:
            records, skipped = wandb_files.read(_find_files(directory, ".wandb"))
            for message in skipped:
                loaded.note(message)
            _add(loaded, records, f"{directory} (offline W&B files)")
        else:
            manifests = _find_files(directory, MANIFEST)
            read_from = run_directories.read([manifest.parent for manifest in manifests], helper or Helper())
            _add(loaded, read_from, f"{directory} (run directories)")
    if not loaded.runs:
        reasons = f" ({len(loaded.notes)} skipped, see above)" if loaded.notes else ""
        raise RequestError(f"no runs under {', '.join(wanted)}{reasons}; run `progrpo train` and `progrpo eval` first")
    return loaded


def _add(loaded: LoadedRuns, records: Iterable[RunRecord | str], place: str) -> None:
    for record in records:
        if isinstance(record, str):
            loaded.note(record)
        else:
            loaded.add(record, place)


def _find_files(root: Path, ending: str) -> list[Path]:
    """Files below ``root`` with this ending, sorted. Directories below a manifest belong to its run; skip them."""
    paths: list[Path] = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        paths.extend(Path(parent, name) for name in sorted(names) if name.endswith(ending))
        if ending == MANIFEST in names:
            folders.clear()
    return paths
