"""Open files that may come from somebody else: only regular files of a limited size, and without blocking.

A named pipe waits for a writer, a device has no end, and a sparse file of five gigabytes takes no space on disk. So
every file of a run, study, data set or model that this package reads is opened here.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TextIO

SMALL = 16 << 20
"""Limit, in bytes, of files of metadata: a manifest, scores without samples, an index."""
LARGEST_LOCK = 1 << 10
"""Limit of a lock file, which holds its owner's process id."""
MEDIUM = 64 << 20
"""Limit of ``scores.json``, which has counts for every problem."""
METRICS = 1 << 30
"""Limit of ``metrics.jsonl`` and of W&B's logs: a million updates."""
LARGE = 16 << 30
"""Limit of a file of samples or problems, which is read line by line."""
LINE = 64 << 20
"""Limit of one line of such a file: a completion with its verdict and statistics."""


class NotAFile(OSError):
    """The path is a directory, a pipe or a device, or the file is too large. Callers that handle OSError handle it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(None, f"{path} {reason}")
        self.strerror = reason


def open_regular(path: Path, largest: int) -> BinaryIO:
    """Open a file for reading, without blocking.

    Args:
        path: links are followed; their target has to be a regular file.
        largest: maximum size in bytes.

    Raises:
        NotAFile: it is not a regular file, or it is larger.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(path, "is not a regular file")
        if status.st_size > largest:
            raise NotAFile(path, f"has {status.st_size >> 20} MiB, more than the limit of {largest >> 20} MiB")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        with suppress(OSError):  # an interrupt after `fdopen`: the file object has closed it
            os.close(descriptor)
        raise


def open_lock(path: Path) -> TextIO:
    """Open a lock file for reading and appending, creating it if it is missing; links are not followed.

    Raises:
        NotAFile: it is not a regular file, is too large for a lock file, or has a second hard link.
        OSError: it cannot be opened, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_LOCK or status.st_nlink > 1:
        os.close(descriptor)
        raise NotAFile(path, "is not a lock file of progrpo's")
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def read_bytes(path: Path, largest: int = SMALL) -> bytes:
    """Return the content, see :func:`open_regular`. A file that grows during the read is read up to the limit."""
    with open_regular(path, largest) as file:
        return file.read(largest)


def count_lines(path: Path) -> int:
    """Count the complete lines of a file of samples or metrics."""
    with open_regular(path, LARGE) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def read_text(path: Path, largest: int = SMALL) -> str:
    """Return the content decoded as UTF-8, with its line ends unchanged; see :func:`read_bytes`.

    Raises:
        ValueError: it is not UTF-8.
    """
    return read_bytes(path, largest).decode("utf-8")
