"""Reading what the real wandb has written, offline, once it is all there."""

import time
from pathlib import Path

from progrpo_cli.tracking.tracked_run import TrackedRun
from progrpo_cli.tracking.wandb_offline import read_wandb_dir


def finished_run(directory: Path) -> TrackedRun:
    """The one run in a ``wandb/`` directory; W&B's own process may write its end after ``finish()`` has returned."""
    deadline = time.monotonic() + 30
    while True:
        found = read_wandb_dir(directory)
        if [run.status for run in found] == ["finished"]:
            return found[0]
        assert time.monotonic() < deadline, f"W&B did not end the log in {directory}"
        time.sleep(0.02)
