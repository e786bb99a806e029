"""Processes beside ours, and the one that draws figures where a report has so many runs that it is worth its start."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from progrpo_cli.errors import WorkError

_T = TypeVar("_T")

WORTH_A_PROCESS = 50
"""Runs; with fewer, a process is still importing when the figures are drawn."""

Begin = Callable[[Iterable[Callable[[], _T]]], Callable[[], list[_T]]]
"""Takes jobs and returns what ends them: it gives their results, in their order."""


@contextmanager
def spawned(workers: int, what: str) -> Iterator[ProcessPoolExecutor]:
    """Processes beside this one, not forked: a fork of a process with threads may hang.

    Args:
        workers: how many.
        what: they do, for the message.

    Raises:
        WorkError: one of them was killed.
    """
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
    except BrokenProcessPool:
        raise WorkError(f"a process that {what} beside this one was killed; is there memory for it?") from None


@contextmanager
def helper(runs: int) -> Iterator[Begin[Any]]:
    """Whoever does the jobs: a second process that imports what they need from now on, or nobody but us.

    Args:
        runs: how many the report has.

    Raises:
        WorkError: that process was killed.
    """
    if runs < WORTH_A_PROCESS or (os.cpu_count() or 1) < 2:
        yield lambda jobs: lambda: [job() for job in jobs]
        return
    with spawned(1, "draws figures") as pool:
        pool.submit(_import)
        yield lambda jobs: _begin(pool, jobs)


def _begin(pool: ProcessPoolExecutor, jobs: Iterable[Callable[[], _T]]) -> Callable[[], list[_T]]:
    left = [(job, pool.submit(job)) for job in jobs]

    def end() -> list[_T]:
        """The helper takes them from the first on; we take those that are left from the last on, until we meet."""
        ours: list[_T] = []
        while left and left[-1][1].cancel():
            ours.append(left.pop()[0]())
        return [future.result() for _, future in left] + ours[::-1]

    return end


def _import() -> None:
    for name in ("progrpo_cli.reporting.figures", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf"):
        importlib.import_module(name)
