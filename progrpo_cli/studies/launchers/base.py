"""Where a study's worker processes come from: one small protocol, one contract suite."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

from progrpo_cli.studies.plan import Plan

GRACE_SECONDS = 60.0


class Launcher(Protocol):
    """Starts workers, knows how many are left, and ends them. A worker that dies is missed, nothing more."""

    def start(self) -> None:
        """One more worker. Raises WorkError: it cannot be started."""

    def alive(self) -> int:
        """How many are running, or waiting to be let run."""

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or sooner if a worker ends and that can be seen for free."""

    def stop(self) -> None:
        """Ask those that have not ended to save and end, and wait for them; after a minute they are killed."""


def worker_command(plan: Plan) -> list[str]:
    """The command of the contract; the study's storage stands in ``study.yaml`` too, the URL is for people to see."""
    command = [sys.executable, "-m", "progrpo_cli", "sweep", "--worker", "--study", str(plan.directory)]
    is_trusted = plan.code_run or plan.code_imported  # the command line that started the study asked for it
    trust = ["--trust-config"] if is_trusted else []
    return [*command, *trust, *(["--storage", plan.storage] if plan.storage else [])]


def log_of(plan: Plan, number: int) -> Path:
    """Where a worker of this machine writes what it logs."""
    logs = plan.directory / "logs"
    logs.mkdir(exist_ok=True)
    return logs / f"worker-{number}.log"


def use_share_of_cores(workers: int) -> int:
    """How many threads a worker may use: its share of the cores that this process may run on, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // workers)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdigit() and int(asked) > 0 else share
