"""Importing what takes seconds: torch, transformers, TRL."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Within: imports. They leave a million objects that stay as long as the process does.

    The garbage collector would look through them all again and again while they come in, at each full collection
    later, and once more at the end of the process: a quarter of the time of importing, and two seconds to end.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
