"""The protocol of launchers, which start the worker processes of a study."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

from progrpo_cli.studies.plan import Plan

GRACE_SECONDS = 60.0


class Launcher(Protocol):
    """Starts workers, counts those that are alive, and stops them."""

    def start(self) -> None:
        """Start another worker. Raises WorkError if it cannot be started."""

    def alive(self) -> int:
        """Return the number of workers that are running or queued."""

    def wait(self, seconds: float) -> None:
        """Sleep for ``seconds``; a launcher may return earlier when a worker ends."""

    def stop(self) -> None:
        """Tell all workers to save and end, and wait for them; those that are left after a minute are killed."""


def worker_command(plan: Plan) -> list[str]:
    """Return the command line of a worker. It shows the storage for people; the worker reads it in ``study.yaml``."""
    command = [sys.executable, "-m", "progrpo_cli", "sweep", "--worker", "--study", str(plan.directory)]
    # The command line that started the study has approved its demands.
    trust = ["--trust-config"] if plan.demands() or plan.foreign_classes else []
    return [*command, *trust, *(["--storage", plan.storage] if plan.storage else [])]


def log_path(plan: Plan, number: int) -> Path:
    """Return the path of a local worker's log; its directory is created."""
    logs = plan.directory / "logs"
    logs.mkdir(exist_ok=True)
    return logs / f"worker-{number}.log"


def threads_per_worker(workers: int) -> int:
    """Return a worker's share of the available cores, at least 1 and at most OMP_NUM_THREADS if that is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // workers)
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(limit)) if limit.isdigit() and int(limit) > 0 else share
