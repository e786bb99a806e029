"""What ends a run from inside: its time limit, numbers that are none, a trial that is given up."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from progrpo_cli.errors import WorkError

GRACE_SECONDS = 60.0
"""A run that does not hear its time limit, inside foreign code, is ended together with its worker after so long."""
MUST_BE_FINITE = ("loss", "reward", "grad_norm", "entropy")


class Pruned(KeyboardInterrupt):
    """The trial is given up; like an interrupt, it is no failure and passes every ``except Exception``."""


class TimeLimit(WorkError):
    """The run took longer than ``minutes_per_run``."""


class NotANumber(WorkError):
    """Training has broken down."""


@contextmanager
def time_limit(minutes: float | None, *, overrun: Callable[[str], None]) -> Iterator[None]:
    """Raise TimeLimit in the main thread when the time is up.

    Args:
        minutes: None: no limit.
        overrun: called from another thread a minute later, if the main thread is still busy; then the process ends.
    """
    if minutes is None:
        yield
        return
    reason = f"time limit of {minutes:g} minutes exceeded"

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeLimit(reason)

    def end() -> None:
        try:
            overrun(reason)
        finally:
            os._exit(1)

    watchdog = threading.Timer(minutes * 60 + GRACE_SECONDS, end)
    watchdog.daemon = True
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, minutes * 60)
    watchdog.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        watchdog.cancel()


def require_finite(record: Mapping[str, Any]) -> None:
    """Raise NotANumber if an update's numbers are none: no later one would be better."""
    for name in MUST_BE_FINITE:
        value = record.get(name)
        if value is not None and not math.isfinite(value):
            raise NotANumber(f"{name} is {value} at update {record['step']}")
