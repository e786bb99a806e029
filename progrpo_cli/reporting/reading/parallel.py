"""Pools of spawned processes, and the helper process that shares the reading and drawing of large reports."""

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
"""Number of runs. With fewer, everything is done before a second process has finished its imports."""


@contextmanager
def spawn_pool(workers: int, activity: str) -> Iterator[ProcessPoolExecutor]:
    """Context manager. A pool of spawned processes, which start with their first job.

    They are not forked, because a fork of a process with threads may hang.

    Args:
        workers: number of processes.
        activity: what they do, for the error message.

    Raises:
        WorkError: one of them was killed.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_initialise_process)
    try:
        yield pool
    except BrokenProcessPool:
        raise WorkError(f"a process that {activity} was killed, perhaps for lack of memory") from None
    finally:
        pool.shutdown(cancel_futures=True)  # drop jobs that remain after an error or an interrupt


def _initialise_process() -> None:
    gc.set_threshold(*heavy.RARE_THRESHOLDS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one handles it


class Helper:
    """Runs jobs in this process, and also in a second one after :meth:`start`."""

    def __init__(self, pool: ProcessPoolExecutor | None = None) -> None:
        self._pool = pool
        self._started = False

    def start(self, runs: int) -> None:
        """Use the second process from now on if the report has enough runs and there is more than one core."""
        self._started |= self._pool is not None and runs >= WORTH_A_PROCESS and (os.cpu_count() or 1) > 1

    def prepare(self, *modules: str) -> None:
        """Import modules in the second process before the jobs that need them."""
        if self._pool is not None and self._started:
            for name in modules:
                self._pool.submit(importlib.import_module, name)

    def begin(self, jobs: Iterable[Callable[[], _T]]) -> Callable[[], list[_T]]:
        """Begin picklable jobs and return a function that finishes them and returns their results in order."""
        if self._pool is None or not self._started:
            return lambda: [job() for job in jobs]
        return _SharedJobs(self._pool, jobs).finish


@contextmanager
def open_helper() -> Iterator[Helper]:
    """Context manager. The helper of one report.

    Raises:
        WorkError: its process was killed.
    """
    with spawn_pool(1, "reads runs and draws figures") as pool:
        yield Helper(pool)


class _SharedJobs(Generic[_T]):
    """Jobs shared by two processes: the other one takes the first job, this one the last, until they meet.

    The other process is given one job at a time, because a job that waits in a pool's queue cannot be taken back.
    """

    def __init__(self, pool: ProcessPoolExecutor, jobs: Iterable[Callable[[], _T]]) -> None:
        self._pool = pool
        self._remaining = deque(jobs)
        self._lock = threading.Lock()
        self._submitted: list[Future[_T]] = []
        self._submit_next()

    def finish(self) -> list[_T]:
        """Do the remaining jobs and return the results of all jobs in order."""
        results: list[_T] = []
        while (job := self._take_last()) is not None:
            results.append(job())
        return [future.result() for future in self._submitted] + results[::-1]

    def _take_last(self) -> Callable[[], _T] | None:
        with self._lock:
            if self._submitted and self._submitted[-1].done():
                self._submitted[-1].result()  # raise an error of the other process without delay
            return self._remaining.pop() if self._remaining else None

    def _submit_next(self) -> None:
        with self._lock:
            if not self._remaining:
                return
            future = self._pool.submit(self._remaining[0])
            self._remaining.popleft()
            self._submitted.append(future)
        future.add_done_callback(self._on_done)

    def _on_done(self, finished: Future[_T]) -> None:
        if finished.cancelled() or finished.exception() is not None:
            return
        with suppress(RuntimeError):  # the pool is shut down after an error here, or its process was just killed
            self._submit_next()
