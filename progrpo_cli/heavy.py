"""Importing what takes seconds (torch, transformers, TRL), and how often the garbage collector runs."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Within: imports. They leave a million objects that stay as long as the process does.

    The garbage collector would look through them all again and again while they come in, at each full collection
    later, and once more at the end of the process: a quarter of the time of importing, and two seconds to end.
    """
    collects, modules = gc.isenabled(), len(sys.modules)
    gc.collect()  # garbage of now, a run's trainer with its weights, would be kept for ever with what comes
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        if collects:
            gc.enable()


SELDOM = (10_000, 50, 100)
"""Thresholds for work that makes many small objects, runs or samples, which stay: with Python's own a tenth of a large
report and a seventh of all but the drawing of an evaluation went into looking through them."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Collect garbage seldom, in the whole process, as long as this lasts."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)


REPORT_WHAT_IS_LEFT = ("triton", "vllm")
"""Their C++ parts say, on stderr and at length, which objects are still there when the interpreter has ended. Triton
comes with PyTorch's CUDA builds."""


@atexit.register
def _let_the_last_collection_find_everything() -> None:
    if any(name in sys.modules for name in REPORT_WHAT_IS_LEFT):
        gc.unfreeze()
