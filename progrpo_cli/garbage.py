"""How often Python looks for garbage in cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SELDOM = (10_000, 50, 100)
"""Thresholds for work that makes many small objects, runs or samples, which stay: with Python's own a tenth of a large
report and a seventh of all but the drawing of an evaluation went into looking through them."""


@contextmanager
def seldom_looked_for() -> Iterator[None]:
    """As long as this lasts, in the whole process."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
