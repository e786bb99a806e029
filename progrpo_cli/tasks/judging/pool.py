"""Judge answers in processes that can be killed, with a hard limit of time and memory for each answer.

One parent process imports the judge and forks the workers, so a killed worker is replaced in milliseconds.
``signal.alarm`` is not enough: it only works in the main thread, and it does not stop a computation in C code.

An answer that takes longer than ``FIRST_BUDGET`` moves to the background: it runs only when the core is idle, another
worker takes its place, and its limit starts when all other answers are judged. If the background is full, the answer is
stopped and starts again later, first with a slightly larger budget and at the very end with the whole limit. So hostile
answers delay each other, and hardly delay ordinary ones.
"""

from __future__ import annotations

import atexit
import math
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from progrpo_cli.console import log
from progrpo_cli.errors import WorkError
from progrpo_cli.tasks.judging.channel import cpu_seconds, receive, send

FIRST_BUDGET = 0.06
"""Seconds of processor time for the first attempt. Ordinary answers take 1 to 50 ms."""
BACKGROUND_PER_WORKER = 2
"""Answers in the background at once, per worker."""
SECOND_BUDGET = 0.15
"""Seconds of processor time for the second attempt: enough for answers that are merely slow."""
LIMIT = 3.0
"""Seconds of processor time for an answer in the background, and for the last attempt."""
WALL_CLOCK_FACTOR = 5
"""Limit on wall-clock time, in multiples of the limit on processor time: an answer may have to wait for a core."""
MEMORY = 1 << 29
"""Bytes of address space of one worker."""
_START_TIMEOUT = 60.0  # seconds for the imports, on a loaded machine
_MAX_RESTARTS = 3


class _ParentDied(Exception):
    """The process that forks the workers has died, and so have its workers."""


@dataclass
class _Worker:
    pid: int
    channel: socket.socket


_Lane = Literal["first", "second", "background", "last"]
_BUDGET: dict[_Lane, float] = {"first": FIRST_BUDGET, "second": SECOND_BUDGET}
_NEXT_LANE: dict[_Lane, _Lane] = {"first": "second", "second": "last"}
"""The next lane of an answer that used up its budget."""


@dataclass
class _Running:
    worker: _Worker
    index: int
    lane: _Lane
    started: float
    deadline: float
    cpu_before: float


class JudgePool:
    """Workers that call the ``judge`` of a module. They start at first use. Threads can share a pool and take turns."""

    def __init__(self, module: str, workers: int, *, limit: float = LIMIT, memory: int = MEMORY) -> None:
        """Create a pool.

        Args:
            module: a module with ``judge(request) -> str``. The workers import it.
            workers: number of answers judged in parallel.
            limit: seconds of processor time for one answer.
            memory: bytes of address space of one worker.
        """
        self._module, self._size, self._limit, self._memory = module, workers, limit, memory
        self._parent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def judge(
        self,
        requests: Sequence[Mapping[str, Any]],
        on_result: Callable[[int, str], None] | None = None,
        *,
        costly: Collection[int] = (),
    ) -> list[str]:
        """Return the result of ``judge`` for each request, in order.

        ``timeout`` or ``memory`` if it reached a limit. ``error`` if two workers died of the request, or if their
        parent keeps dying.

        Args:
            requests: arguments for the module's ``judge``.
            costly: indices of requests that may take long. They start after all others.
            on_result: called with the index and result of each request as soon as it is judged.

        Raises:
            WorkError: the workers cannot be started.
        """
        results: list[str | None] = [None] * len(requests)

        def record(index: int, result: str) -> None:
            results[index] = result
            if on_result is not None:
                on_result(index, result)

        with self._lock:
            for attempt in range(_MAX_RESTARTS + 1):
                remaining = [index for index, result in enumerate(results) if result is None]
                first = deque(index for index in remaining if index not in costly)
                last = deque(index for index in remaining if index in costly)
                try:
                    self._judge_all(requests, {"first": first, "second": deque(), "last": last}, record)
                    break
                except _ParentDied as error:
                    self._stop()
                    if attempt == _MAX_RESTARTS:
                        log.warning(f"the processes that judge answers ({self._module}) keep dying: {error}")
                        for index in [index for index, result in enumerate(results) if result is None]:
                            record(index, "error")
        return [result for result in results if result is not None]

    def close(self) -> None:
        """End the processes. The next call of ``judge`` starts them again."""
        with self._lock:
            self._stop()

    def pids(self) -> list[int]:
        """Return the process ids of the parent and of its idle workers."""
        return [*([self._parent.pid] if self._parent else []), *(worker.pid for worker in self._idle)]

    def _judge_all(
        self,
        requests: Sequence[Mapping[str, Any]],
        waiting: Mapping[_Lane, deque[int]],
        record: Callable[[int, str], None],
    ) -> None:
        running: dict[socket.socket, _Running] = {}
        died: set[int] = set()
        with selectors.DefaultSelector() as selector:
            while running or any(waiting.values()):
                while (lane := _next_lane(waiting, running)) and self._has_room(running):
                    run = self._assign(waiting[lane].popleft(), lane)
                    running[run.worker.channel] = run
                    selector.register(run.worker.channel, selectors.EVENT_READ)
                    send(run.worker.channel, requests[run.index])
                if all(run.lane == "background" for run in running.values()):
                    self._start_limits(running.values())
                nearest = min(run.deadline for run in running.values())
                wait = None if nearest == math.inf else max(0.0, nearest - time.monotonic())
                ready = {key.fileobj for key, _ in selector.select(wait)}
                for channel, run in list(running.items()):
                    if channel not in ready and (time.monotonic() < run.deadline or self._may_continue(run, running)):
                        continue
                    result = receive(channel) if channel in ready else None
                    selector.unregister(channel)
                    del running[channel]
                    if result not in (None, "memory") and run.lane != "background":
                        self._idle.append(run.worker)
                    else:
                        self._kill(run.worker)
                    if run.lane in _NEXT_LANE and channel not in ready:
                        waiting[_NEXT_LANE[run.lane]].append(run.index)
                    elif channel in ready and result is None and run.index not in died:
                        died.add(run.index)  # the worker may have been killed from outside
                        waiting["second"].append(run.index)
                    else:
                        record(run.index, result or ("error" if channel in ready else "timeout"))

    def _has_room(self, running: Mapping[Any, _Running]) -> bool:
        return sum(run.lane != "background" for run in running.values()) < self._size

    def _assign(self, index: int, lane: _Lane) -> _Running:
        worker = self._idle.pop() if self._idle else self._fork()
        now = time.monotonic()
        deadline = now + self._budget(lane)
        return _Running(worker, index, lane, now, deadline, cpu_seconds(worker.pid))

    def _budget(self, lane: _Lane) -> float:
        """Return the seconds of processor time that an answer has in a lane."""
        return min(_BUDGET.get(lane, math.inf), self._limit)

    def _may_continue(self, run: _Running, running: Mapping[Any, _Running]) -> bool:
        """Extend the deadline of an answer that had to wait for a core, or move the answer to the background.

        Returns:
            False if neither is possible: the answer has to stop.
        """
        if time.monotonic() - run.started >= WALL_CLOCK_FACTOR * self._limit:
            return False
        remaining = self._budget(run.lane) - (cpu_seconds(run.worker.pid) - run.cpu_before)
        if remaining > 0.01:  # a verdict must not depend on how busy the machine is
            run.deadline = time.monotonic() + remaining
            return True
        if (
            run.lane != "first"
            or sum(other.lane == "background" for other in running.values()) >= BACKGROUND_PER_WORKER * self._size
        ):
            return False
        with suppress(ProcessLookupError):
            os.sched_setscheduler(run.worker.pid, os.SCHED_IDLE, os.sched_param(0))
        run.lane, run.deadline = "background", math.inf
        return True

    def _start_limits(self, runs: Iterable[_Running]) -> None:
        """Start the limits of the answers in the background, when all others are judged."""
        for run in runs:
            if run.deadline == math.inf:
                run.started, run.cpu_before = time.monotonic(), cpu_seconds(run.worker.pid)
                run.deadline = run.started + self._limit

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = ("-m", "progrpo_cli.tasks.judging.worker", self._module, str(theirs.fileno()), str(self._memory))
            self._parent = subprocess.Popen(
                [sys.executable, *command],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches only us; the workers end when we do
            )
        ours.settimeout(_START_TIMEOUT)
        self._control = ours
        if self._receive_reply() != b"ready":
            self._stop()
            raise WorkError(f"the process that judges answers ({self._module}) does not start")
        return ours

    def _receive_reply(self) -> bytes:
        assert self._control is not None
        try:
            return self._control.recv(64)
        except OSError:
            return b""

    def _command(self, command: bytes, descriptors: list[int]) -> bytes:
        control = self._control or self._start()
        try:
            socket.send_fds(control, [command], descriptors)
        except OSError as error:
            raise _ParentDied from error
        reply = self._receive_reply()
        if not reply:
            raise _ParentDied
        return reply

    def _fork(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            pid = int(self._command(b"fork", [theirs.fileno()]))
        return _Worker(pid, ours)

    def _kill(self, worker: _Worker) -> None:
        worker.channel.close()
        self._command(b"kill %d" % worker.pid, [])

    def _stop(self) -> None:
        for worker in self._idle:
            worker.channel.close()
        self._idle.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._parent is not None:
            self._parent.kill()  # its workers die with it
            self._parent.wait()
            self._parent = None


def _next_lane(waiting: Mapping[_Lane, Collection[int]], running: Mapping[Any, _Running]) -> _Lane | None:
    """Return the lane of the next answer to start, or None. The last lane starts when all others are finished."""
    for lane in ("first", "second"):
        if waiting[lane]:
            return lane
    return "last" if waiting["last"] and all(run.lane == "last" for run in running.values()) else None


@cache
def shared_pool(module: str) -> JudgePool:
    """Return this process's pool for a module, with one worker for each core that the process may use."""
    pool = JudgePool(module, workers=len(os.sched_getaffinity(0)))
    atexit.register(pool.close)
    return pool
