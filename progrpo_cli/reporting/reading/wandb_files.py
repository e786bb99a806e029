"""Read W&B's offline files as records, in several processes if they are large."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from progrpo_cli.reporting.reading.parallel import spawn_pool
from progrpo_cli.reporting.reading.record import RunRecord, from_tracked
from progrpo_cli.tracking import wandb_offline

_BYTES_PER_PROCESS = 10_000_000  # reading fewer bytes is faster than starting another process


def read(logs: Sequence[Path]) -> tuple[list[RunRecord], list[str]]:
    """Read ``.wandb`` files and merge those of the same run.

    Returns:
        The runs, oldest first, and a message for each skipped file.
    """
    by_run: dict[str, list[Path]] = {}
    for path in logs:
        by_run.setdefault(path.stem, []).append(path)
    groups = list(by_run.values())
    size = sum(path.stat().st_size for path in logs)
    workers = min(os.cpu_count() or 1, len(groups), size // _BYTES_PER_PROCESS + 1)
    if workers == 1:
        results = [_read_group(group) for group in groups]
    else:
        with spawn_pool(workers, "reads W&B files") as pool:
            results = list(pool.map(_read_group, groups, chunksize=4))
    records = [record for records, _ in results for record in records]
    return sorted(records, key=lambda run: (run.started, run.id)), [line for _, lines in results for line in lines]


def _read_group(logs: list[Path]) -> tuple[list[RunRecord], list[str]]:
    skipped: list[str] = []
    return [from_tracked(run) for run in wandb_offline.merge(logs, skipped.append)], skipped
