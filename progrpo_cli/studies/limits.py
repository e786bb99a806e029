"""Reasons to end a run early: its time limit, numbers that are not finite, and pruning."""

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
"""How long after the time limit the worker's process is ended, if the run does not react (inside foreign code)."""
MUST_BE_FINITE = ("loss", "reward", "grad_norm", "entropy")


class Pruned(KeyboardInterrupt):
    """The trial is pruned. This is not a failure, and ``except Exception`` does not catch it."""


class TimeLimit(WorkError):
    """The run took longer than ``minutes_per_run``."""


class NotANumber(WorkError):
    """Training has diverged: a metric is not finite."""


@contextmanager
def time_limit(minutes: float | None, *, overrun: Callable[[str], None]) -> Iterator[None]:
    """Context manager that raises TimeLimit in the main thread when the time is up.

    Args:
        minutes: the limit; None: no limit.
        overrun: called with the reason from another thread if the block is still running a minute later; after that
            the process exits.
    """
    if minutes is None:
        yield
        return
    reason = f"time limit of {minutes:g} minutes exceeded"

    def raise_time_limit(number: int, frame: FrameType | None) -> None:
        raise TimeLimit(reason)

    def end_process() -> None:
        try:
            overrun(reason)
        finally:
            os._exit(1)

    watchdog = threading.Timer(minutes * 60 + GRACE_SECONDS, end_process)
    watchdog.daemon = True
    before = signal.signal(signal.SIGALRM, raise_time_limit)
    signal.setitimer(signal.ITIMER_REAL, minutes * 60)
    watchdog.start()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        watchdog.cancel()


def require_finite(record: Mapping[str, Any]) -> None:
    """Raise NotANumber if a metric of an update is not finite, since later updates would not recover."""
    for name in MUST_BE_FINITE:
        value = record.get(name)
        if value is not None and not math.isfinite(value):
            raise NotANumber(f"{name} is {value} at update {record['step']}")
