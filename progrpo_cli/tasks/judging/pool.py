"""Judging answers in processes that can be killed: a hard limit of time and memory on each, whatever the answer is.

One process imports what judging needs and forks the workers, so that a killed worker is replaced in milliseconds.
``signal.alarm`` would not do: it fails off the main thread, and a computation inside C code does not notice it.

An answer that is not judged within ``SOON`` is put aside: it goes on only while nobody else wants the core, another
worker takes its place, and its limit counts from when the others are done. Where there is no room aside it starts again
later, with a little more time first and the whole limit at the very end. So a few hostile answers take time from each
other, hardly from the ordinary ones.
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

SOON = 0.06
"""Seconds of processor time after which an answer has to wait for the others: ordinary ones take 1 to 50 ms."""
ASIDE = 2
"""Answers put aside at once, for each worker; the next one starts again later."""
SECOND = 0.15
"""Seconds of processor time at the second attempt: enough for whatever is merely slow."""
LIMIT = 3.0
"""Seconds of processor time after which judging an answer is given up."""
PATIENCE = 5
"""By the clock it is given up after so many times the limit: it may have had to wait for a core."""
MEMORY = 1 << 29
"""Bytes of address space that one worker may use."""
_START = 60.0  # seconds for the imports, on a loaded machine
_RESTARTS = 3


class _ParentDied(Exception):
    """The process that forks the workers is gone, and its workers with it."""


@dataclass
class _Worker:
    pid: int
    channel: socket.socket


_Lane = Literal["first", "second", "aside", "last"]


_BUDGET: dict[_Lane, float] = {"first": SOON, "second": SECOND}
_AFTER: dict[_Lane, _Lane] = {"first": "second", "second": "last"}
"""Where an answer goes that had to make room; perhaps the machine was busy."""


@dataclass
class _Running:
    worker: _Worker
    index: int
    lane: _Lane
    started: float
    deadline: float
    cpu_before: float


class JudgePool:
    """Workers that judge by one module's ``judge``; started at first use, usable from any thread, one at a time."""

    def __init__(self, module: str, workers: int, *, limit: float = LIMIT, memory: int = MEMORY) -> None:
        """Make a pool.

        Args:
            module: a module with ``judge(request) -> str``, imported in the workers.
            workers: how many answers are judged side by side.
            limit: seconds of processor time for one answer.
            memory: bytes of address space for one worker.
        """
        self._module, self._size, self._limit, self._memory = module, workers, limit, memory
        self._parent: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def judge(
        self,
        requests: Sequence[Mapping[str, Any]],
        done: Callable[[int, str], None] | None = None,
        *,
        costly: Collection[int] = (),
    ) -> list[str]:
        """What ``judge`` says of each request, in order; ``timeout`` or ``memory`` where it ran out of one.

        ``error`` is where nobody can say: two workers died of it, or their parent keeps dying.

        Args:
            requests: what the module's ``judge`` takes.
            costly: indices of those that look as if they took long: they are begun after all others.
            done: told each index and answer as soon as it is known.

        Raises:
            WorkError: the workers cannot be started.
        """
        answers: list[str | None] = [None] * len(requests)

        def known(index: int, answer: str) -> None:
            answers[index] = answer
            if done is not None:
                done(index, answer)

        with self._lock:
            for attempt in range(_RESTARTS + 1):
                missing = [index for index, answer in enumerate(answers) if answer is None]
                soon = deque(index for index in missing if index not in costly)
                last = deque(index for index in missing if index in costly)
                try:
                    self._judge_all(requests, {"first": soon, "second": deque(), "last": last}, known)
                    break
                except _ParentDied as error:
                    self._stop()
                    if attempt == _RESTARTS:
                        log.warning(f"the processes that judge answers ({self._module}) keep dying: {error}")
                        for index in [index for index, answer in enumerate(answers) if answer is None]:
                            known(index, "error")
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        """End the processes; the next call of ``judge`` starts them again."""
        with self._lock:
            self._stop()

    def pids(self) -> list[int]:
        """The processes there are: the one that forks, and its idle workers."""
        return [*([self._parent.pid] if self._parent else []), *(worker.pid for worker in self._idle)]

    def _judge_all(
        self,
        requests: Sequence[Mapping[str, Any]],
        waiting: Mapping[_Lane, deque[int]],
        known: Callable[[int, str], None],
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
                if all(run.lane == "aside" for run in running.values()):
                    self._let_go_on(running.values())
                nearest = min(run.deadline for run in running.values())
                wait = None if nearest == math.inf else max(0.0, nearest - time.monotonic())
                ready = {key.fileobj for key, _ in selector.select(wait)}
                for channel, run in list(running.items()):
                    if channel not in ready and (time.monotonic() < run.deadline or self._has_time(run, running)):
                        continue
                    answer = receive(channel) if channel in ready else None
                    selector.unregister(channel)
                    del running[channel]
                    if answer not in (None, "memory") and run.lane != "aside":
                        self._idle.append(run.worker)
                    else:
                        self._kill(run.worker)
                    if run.lane in _AFTER and channel not in ready:
                        waiting[_AFTER[run.lane]].append(run.index)
                    elif channel in ready and answer is None and run.index not in died:
                        died.add(run.index)  # perhaps somebody else killed the worker
                        waiting["second"].append(run.index)
                    else:
                        known(run.index, answer or ("error" if channel in ready else "timeout"))

    def _has_room(self, running: Mapping[Any, _Running]) -> bool:
        return sum(run.lane != "aside" for run in running.values()) < self._size

    def _assign(self, index: int, lane: _Lane) -> _Running:
        worker = self._idle.pop() if self._idle else self._fork()
        now = time.monotonic()
        deadline = now + self._budget(lane)
        return _Running(worker, index, lane, now, deadline, cpu_seconds(worker.pid))

    def _budget(self, lane: _Lane) -> float:
        """Seconds of processor time that an answer has in a lane."""
        return min(_BUDGET.get(lane, math.inf), self._limit)

    def _has_time(self, run: _Running, running: Mapping[Any, _Running]) -> bool:
        """Whether an answer at its deadline may go on: it had to wait for a core, or there is room for it aside."""
        if time.monotonic() - run.started >= PATIENCE * self._limit:
            return False
        missing = self._budget(run.lane) - (cpu_seconds(run.worker.pid) - run.cpu_before)
        if missing > 0.01:  # a busy machine is no reason to give up: a verdict must not depend on it
            run.deadline = time.monotonic() + missing
            return True
        if run.lane != "first" or sum(other.lane == "aside" for other in running.values()) >= ASIDE * self._size:
            return False
        with suppress(ProcessLookupError):
            os.sched_setscheduler(run.worker.pid, os.SCHED_IDLE, os.sched_param(0))
        run.lane, run.deadline = "aside", math.inf
        return True

    def _let_go_on(self, runs: Iterable[_Running]) -> None:
        """All others are judged: what was put aside now has its limit."""
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
                start_new_session=True,  # Ctrl-C is ours to handle: the workers end with us
            )
        ours.settimeout(_START)
        self._control = ours
        if self._answer() != b"ready":
            self._stop()
            raise WorkError(f"the process that judges answers ({self._module}) does not start")
        return ours

    def _answer(self) -> bytes:
        assert self._control is not None
        try:
            return self._control.recv(64)
        except OSError:
            return b""

    def _command(self, text: bytes, descriptors: list[int]) -> bytes:
        control = self._control or self._start()
        try:
            socket.send_fds(control, [text], descriptors)
        except OSError as error:
            raise _ParentDied from error
        answer = self._answer()
        if not answer:
            raise _ParentDied
        return answer

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
    """The lane that the next answer comes from, None for none now: what is aside goes on before the last ones begin."""
    for lane in ("first", "second"):
        if waiting[lane]:
            return lane
    return "last" if waiting["last"] and all(run.lane == "last" for run in running.values()) else None


@cache
def shared_pool(module: str) -> JudgePool:
    """The pool of this process for a module, as wide as the cores that the process may use."""
    pool = JudgePool(module, workers=len(os.sched_getaffinity(0)))
    atexit.register(pool.close)
    return pool
