"""Opening files that somebody else may have put there: regular files of a bounded size, and nothing that waits.

A named pipe waits for a writer, a device has no end, and a sparse file of five gigabytes takes no room on a disk. So
every file of a run, study, data set or model that we read ourselves is opened here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, TextIO

SMALL = 16 << 20
"""Bytes of a file that describes: a manifest, scores without samples, an index."""
LARGEST_LOCK = 1 << 10
"""Of a file that is locked, which holds who has it."""
MEDIUM = 64 << 20
"""Of ``scores.json``, which has a count a problem."""
METRICS = 1 << 30
"""Of ``metrics.jsonl`` and of W&B's logs: a million updates."""
LARGE = 16 << 30
"""Of a file of samples or problems, which is read a line at a time."""
LINE = 64 << 20
"""Of one line of it: a completion and what is known of it."""


class NotAFile(OSError):
    """What has the name of a file is a directory, a pipe, a device, or too large. It is an OSError like those that
    opening raises: whoever reads files of others has to expect one."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(None, f"{path} {reason}")
        self.strerror = reason


def open_regular(path: Path, largest: int) -> BinaryIO:
    """Open a file for reading, without waiting for anything.

    Args:
        path: links are followed; where they lead has to be a regular file, too.
        largest: bytes that it may have.

    Raises:
        NotAFile: it is none, or larger.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotAFile(path, "is not a regular file")
        if found.st_size > largest:
            raise NotAFile(path, f"has {found.st_size >> 20} MiB, more than the {largest >> 20} MiB that are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def open_lock(path: Path) -> TextIO:
    """Open a file to lock it and to write who holds it, making it if there is none; links are not followed.

    Raises:
        NotAFile: it is no regular file, and what it is would be written to.
        OSError: it cannot be opened, or is a link.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_LOCK or found.st_nlink > 1:
        os.close(descriptor)
        raise NotAFile(path, "is not a lock of ours")
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def read_bytes(path: Path, largest: int = SMALL) -> bytes:
    """The content; see :func:`open_regular`. A file that grows meanwhile is read up to the limit."""
    with open_regular(path, largest) as file:
        return file.read(largest)


def count_lines(path: Path) -> int:
    """How many lines end in a file of samples or metrics."""
    with open_regular(path, LARGE) as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))


def read_text(path: Path, largest: int = SMALL) -> str:
    """The same as text in UTF-8, its line ends as they are.

    Raises:
        ValueError: it is no UTF-8.
    """
    return read_bytes(path, largest).decode("utf-8")
