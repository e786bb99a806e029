"""The garbage collector during slow imports (torch, transformers, TRL) and during work that creates many objects."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Context manager for imports: disables the garbage collector and freezes the objects that the imports create.

    There are about a million of them, and they live as long as the process. The collector would traverse them many
    times during the imports, at every full collection and at exit. That took a quarter of the import time, and two
    seconds at exit.
    """
    was_enabled, modules = gc.isenabled(), len(sys.modules)
    gc.collect()  # existing garbage, e.g. a run's trainer with its weights, would be frozen too and never be freed
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        if was_enabled:
            gc.enable()


RARE_THRESHOLDS = (10_000, 50, 100)
"""Thresholds for work that creates many small, long-lived objects (runs or samples). With Python's defaults, garbage
collection took a tenth of a large report and a seventh of an evaluation without its sampling."""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Context manager that makes garbage collections in this process rare."""
    before = gc.get_threshold()
    gc.set_threshold(*RARE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


LEAK_REPORTERS = ("triton", "vllm")
"""Modules whose C++ parts list on stderr every object that is still alive at exit. Triton comes with PyTorch's CUDA
builds."""


@atexit.register
def _unfreeze_for_the_last_collection() -> None:
    if any(name in sys.modules for name in LEAK_REPORTERS):
        gc.unfreeze()
