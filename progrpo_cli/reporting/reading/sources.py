"""From the SOURCEs of ``progrpo report`` to runs: whatever they are read from, they have one shape."""

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
    """Read all sources; none given: everything below ``runs/``.

    Args:
        sources: run directories, directories with run directories anywhere below them (a study, ``runs``), or
            ``wandb-offline:DIR``. Directories whose name begins with a dot are left out. Or ``wandb:ENTITY/PROJECT``,
            see :mod:`progrpo_cli.reporting.reading.wandb_online`.
        offline: ask no server, read what was fetched before.
        helper: who reads run directories with us; None: nobody.

    Raises:
        RequestError: a source that does not exist or is of no such form, or none of them holds a run.
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
            records, skipped = wandb_files.read(_files(directory, ".wandb"))
            for line in skipped:
                loaded.note(line)
            _add(loaded, records, f"{directory} (offline W&B files)")
        else:
            manifests = _files(directory, MANIFEST)
            read_from = run_directories.read([manifest.parent for manifest in manifests], helper or Helper())
            _add(loaded, read_from, f"{directory} (run directories)")
    if not loaded.runs:
        reasons = f" ({len(loaded.notes)} skipped, see above)" if loaded.notes else ""
        raise RequestError(f"no runs under {', '.join(wanted)}{reasons}; `progrpo train` and `progrpo eval` make them")
    return loaded


def _add(loaded: LoadedRuns, records: Iterable[RunRecord | str], place: str) -> None:
    for record in records:
        if isinstance(record, str):
            loaded.note(record)
        else:
            loaded.add(record, place)


def _files(root: Path, ending: str) -> list[Path]:
    """Files below ``root`` with this ending, sorted. What lies below a manifest belongs to its run."""
    loaded: list[Path] = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        loaded.extend(Path(parent, name) for name in sorted(names) if name.endswith(ending))
        if ending == MANIFEST in names:
            folders.clear()
    return loaded
