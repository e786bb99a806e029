"""The launcher that a study asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from progrpo_cli.studies.launchers.base import Launcher
from progrpo_cli.studies.plan import Plan


@contextmanager
def launched(name: str, plan: Plan, *, at_once: int = 0) -> Iterator[Launcher]:
    """A launcher with so many workers; however the block ends, none of them outlives it.

    Raises:
        WorkError: a worker cannot be started.
    """
    launcher = make_launcher(name, plan)
    try:
        for _ in range(at_once):
            launcher.start()
        yield launcher
    finally:
        launcher.stop()


def make_launcher(name: str, plan: Plan) -> Launcher:
    """``local`` or ``slurm``."""
    if name == "slurm":
        from progrpo_cli.studies.launchers.slurm import SlurmLauncher

        return SlurmLauncher(plan)
    from progrpo_cli.studies.launchers.local import LocalLauncher

    return LocalLauncher(plan)
