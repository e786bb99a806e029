"""Write files atomically, read files of JSON lines, and lock files."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from progrpo_cli.untrusted import LARGE, LARGEST_LOCK, LINE, open_lock, open_regular

ABANDONED_SECONDS = 3600.0
"""A partial file that is older than its target by this much was left by a process that died."""


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` atomically and durably (write a partial file, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:  # on a full disk, the partial file would take up space
        partial.unlink(missing_ok=True)
        raise
    _remove_abandoned(path)


def partial_path(path: Path) -> Path:
    """Return a hidden path beside ``path`` to write to and rename, unique on all hosts that share the directory.

    A process id is not enough: in containers it is often 1.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def _remove_abandoned(path: Path) -> None:
    """Delete partial files that dead processes left beside ``path``. Both times are from the file system's clock."""
    with suppress(OSError):
        newest = path.stat().st_mtime
        for entry in os.scandir(path.parent):
            is_partial = entry.name.startswith(f".{path.name}.") and entry.name.endswith(".partial")
            if is_partial and entry.is_file() and newest - entry.stat().st_mtime > ABANDONED_SECONDS:
                Path(entry.path).unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Replace ``path`` atomically by ``value``; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def json_lines(records: Iterable[Mapping[str, object]]) -> str:
    """Encode each record as a line of ASCII JSON, since some readers split lines at Unicode separators."""
    return "".join(f"{_json_line(record)}\n" for record in records)


def _json_line(record: Mapping[str, object]) -> str:
    """Encode with msgspec, which is five times as fast as ``json``.

    ``json`` is used for text that is not ASCII, and where msgspec may have encoded NaN as null.
    """
    import msgspec

    try:
        line = msgspec.json.encode(record)
    except (UnicodeEncodeError, TypeError):
        return json.dumps(record)
    return line.decode() if line.isascii() and b"null" not in line else json.dumps(record)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full, or that a quota or the limit of file sizes is reached."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def why_not_writable(directory: Path, size: int = 1 << 20) -> str | None:
    """Try to write ``size`` bytes into a directory; return the reason if that fails, or None."""
    probe = partial_path(directory / "probe")
    try:
        with probe.open("wb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return (error.strerror or str(error)).lower()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a JSON-lines file; a last line that a crash cut short is left out.

    Raises:
        ValueError: a complete line is not a JSON object, or is too long; the message names file and line.
    """
    if not path.exists():
        return []
    records = []
    with open_regular(path, LARGE) as file:
        lines = iter(lambda: file.readline(LINE), b"")
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                if len(line) == LINE:
                    raise ValueError(f"{path}, line {number}: longer than {LINE >> 20} MiB")
                break  # a line without a newline is not complete
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON") from error
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {number}: not a JSON object")
            records.append(record)
    return records


@contextmanager
def locked(path: Path, *, seconds: float | None = None) -> Iterator[IO[str]]:
    """Context manager that holds an exclusive ``flock`` on a file, which is created if it is missing.

    The kernel releases the lock when the process ends, also when it is killed.

    Args:
        path: the file; its directory has to exist.
        seconds: how long to wait for another process to release the lock; None: without limit.

    Yields:
        The file, open for reading and appending.

    Raises:
        BlockingIOError: another process still holds the lock.
        OSError: the file cannot be opened.
    """
    with open_lock(path) as file:
        if seconds is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            deadline = time.monotonic() + seconds
            while not _try_lock(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock", str(path))
                time.sleep(0.02)
        yield file


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of :func:`locked` on a file. The file is not created."""
    try:
        with open_regular(path, LARGEST_LOCK) as file:
            return not _try_lock(file, fcntl.LOCK_SH)
    except OSError:  # the file is missing, or it is not a lock file
        return False


def _try_lock(file: IO[Any], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
