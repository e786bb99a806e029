"""Create the launcher of a study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from progrpo_cli.studies.launchers.base import Launcher
from progrpo_cli.studies.plan import Plan


@contextmanager
def open_launcher(name: str, plan: Plan, *, initial_workers: int = 0) -> Iterator[Launcher]:
    """Context manager that starts ``initial_workers`` workers, and stops all workers at its end.

    Raises:
        WorkError: a worker cannot be started.
    """
    launcher = make_launcher(name, plan)
    try:
        for _ in range(initial_workers):
            launcher.start()
        yield launcher
    finally:
        launcher.stop()


def make_launcher(name: str, plan: Plan) -> Launcher:
    """Create the launcher of that name, ``local`` or ``slurm``."""
    if name == "slurm":
        from progrpo_cli.studies.launchers.slurm import SlurmLauncher

        return SlurmLauncher(plan)
    from progrpo_cli.studies.launchers.local import LocalLauncher

    return LocalLauncher(plan)
