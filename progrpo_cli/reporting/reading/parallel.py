"""Processes beside ours, and the one that reads and draws with us where a report has runs enough."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Generic, TypeVar

from progrpo_cli import heavy
from progrpo_cli.errors import WorkError

_T = TypeVar("_T")

WORTH_A_PROCESS = 50
"""Runs; with fewer, a process is still importing when everything is done."""


@contextmanager
def spawned(workers: int, what: str) -> Iterator[ProcessPoolExecutor]:
    """Processes beside this one, not forked: a fork of a process with threads may hang.

    They start with their first job.

    Args:
        workers: how many.
        what: they do, for the message.

    Raises:
        WorkError: one of them was killed.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin_process)
    try:
        yield pool
    except BrokenProcessPool:
        raise WorkError(f"a process that {what} beside this one was killed; is there memory for it?") from None
    finally:
        pool.shutdown(cancel_futures=True)  # nobody waits for what is left after an error or an interrupt


def _begin_process() -> None:
    gc.set_threshold(*heavy.RARE_THRESHOLDS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all of them; one answer is enough


class Helper:
    """Who does jobs: we, and a second process once it is started."""

    def __init__(self, pool: ProcessPoolExecutor | None = None) -> None:
        self._pool = pool
        self._started = False

    def start(self, runs: int) -> None:
        """Have the second process from now on, if a report of so many runs is worth it and there is a core for it."""
        self._started |= self._pool is not None and runs >= WORTH_A_PROCESS and (os.cpu_count() or 1) > 1

    def prepare(self, *modules: str) -> None:
        """Have them imported there, before the jobs that need them."""
        if self._pool is not None and self._started:
            for name in modules:
                self._pool.submit(importlib.import_module, name)

    def begin(self, jobs: Iterable[Callable[[], _T]]) -> Callable[[], list[_T]]:
        """Begin jobs that can be pickled, and return what ends them: it gives their results, in their order."""
        if self._pool is None or not self._started:
            return lambda: [job() for job in jobs]
        return _Shared(self._pool, jobs).end


@contextmanager
def helper() -> Iterator[Helper]:
    """One for a whole report.

    Raises:
        WorkError: its process was killed.
    """
    with spawned(1, "reads runs and draws figures") as pool:
        yield Helper(pool)


class _Shared(Generic[_T]):
    """Jobs of two processes: the other one takes them from the first on, and we from the last on, until they meet.

    It is given one at a time, for what waits in a pool's queue cannot be taken back.
    """

    def __init__(self, pool: ProcessPoolExecutor, jobs: Iterable[Callable[[], _T]]) -> None:
        self._pool = pool
        self._left = deque(jobs)
        self._lock = threading.Lock()
        self._theirs: list[Future[_T]] = []
        self._give_one()

    def end(self) -> list[_T]:
        """Do what is left, and return the results of all, in their order."""
        ours: list[_T] = []
        while (job := self._take_last()) is not None:
            ours.append(job())
        return [future.result() for future in self._theirs] + ours[::-1]

    def _take_last(self) -> Callable[[], _T] | None:
        with self._lock:
            if self._theirs and self._theirs[-1].done():
                self._theirs[-1].result()  # what went wrong there is raised before we go on
            return self._left.pop() if self._left else None

    def _give_one(self) -> None:
        with self._lock:
            if not self._left:
                return
            given = self._pool.submit(self._left[0])
            self._left.popleft()
            self._theirs.append(given)
        given.add_done_callback(self._give_next)

    def _give_next(self, before: Future[_T]) -> None:
        if before.cancelled() or before.exception() is not None:
            return
        with suppress(RuntimeError):  # the pool is shut down, for something went wrong here, or it was killed just now
            self._give_one()
