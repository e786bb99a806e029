"""Read offline logs of the real wandb once they are complete."""

import time
from pathlib import Path

from progrpo_cli.tracking.tracked_run import TrackedRun
from progrpo_cli.tracking.wandb_offline import merge, read_wandb_dir


def finished_run(directory: Path) -> TrackedRun:
    """Return the only run in a ``wandb/`` directory, once all its logs are complete.

    W&B's service may write a log, or its end, after ``finish()`` has returned.
    """
    deadline = time.monotonic() + 30
    while not all(_has_ended(start) for start in directory.glob("*run-*")):
        assert time.monotonic() < deadline, f"W&B did not end every log in {directory}"
        time.sleep(0.02)
    (run,) = read_wandb_dir(directory)
    return run


def _has_ended(start: Path) -> bool:
    return [run.status for run in merge(start.glob("run-*.wandb"))] == ["finished"]
