"""Writing files so that a reader, or a crash, never sees half of one; and locks on files."""

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

ABANDONED_SECONDS = 3600.0
"""A file beside another that is so much older than what is there now was left by a process that died."""


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` atomically and durably (write beside it, fsync, rename)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:  # on a full disk what was written of it is in the way of everything else
        partial.unlink(missing_ok=True)
        raise
    _remove_abandoned(path)


def beside(path: Path) -> Path:
    """A hidden name beside ``path`` to write to and rename: nobody else's, on no host that shares the directory.

    A process id is not enough: in containers it is 1 everywhere.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def _remove_abandoned(path: Path) -> None:
    """Take away what processes that died left beside ``path``; both times are the file system's, not our clock's."""
    with suppress(OSError):
        newest = path.stat().st_mtime
        for entry in os.scandir(path.parent):
            ours = entry.name.startswith(f".{path.name}.") and entry.name.endswith(".partial")
            if ours and entry.is_file() and newest - entry.stat().st_mtime > ABANDONED_SECONDS:
                Path(entry.path).unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Replace ``path`` atomically by ``value``; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def json_lines(records: Iterable[Mapping[str, object]]) -> str:
    """A line of JSON each, all of it ASCII: nobody's reader takes some separator in a text for the end of a line."""
    return "".join(f"{_json_line(record)}\n" for record in records)


def _json_line(record: Mapping[str, object]) -> str:
    """By msgspec, five times as fast as ``json``, unless it may have written NaN as null, or wrote text as UTF-8."""
    import msgspec

    try:
        line = msgspec.json.encode(record)
    except (UnicodeEncodeError, TypeError):
        return json.dumps(record)
    return line.decode() if line.isascii() and b"null" not in line else json.dumps(record)


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk before anything else happens."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room: on the disk, in the quota, or under the limit of a file's size."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def why_not_writable(directory: Path, size: int = 1 << 20) -> str | None:
    """Try to write ``size`` bytes into a directory: why that fails, or None."""
    probe = beside(directory / "probe")
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
    """The complete lines of a JSON-lines file; a last line that a crash cut short is left out.

    Raises:
        ValueError: a line other than the last is no JSON; the message names file and line.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is not complete
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON") from error
    return records


@contextmanager
def locked(path: Path, *, seconds: float | None = None) -> Iterator[IO[str]]:
    """Hold the kernel's lock on a file, which is made if need be: a holder that is killed leaves nothing behind.

    Args:
        path: the file; its directory is there.
        seconds: how long another holder is waited for; None: until it lets go.

    Yields:
        The file, open for reading and appending.

    Raises:
        BlockingIOError: another process holds it still.
        OSError: the file cannot be opened.
    """
    with path.open("a+", encoding="utf-8") as file:
        if seconds is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            deadline = time.monotonic() + seconds
            while not _locked_now(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock", str(path))
                time.sleep(0.02)
        yield file


def is_locked(path: Path) -> bool:
    """Whether a process holds :func:`locked` on a file; the file is not made."""
    try:
        with path.open("rb") as file:
            return not _locked_now(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _locked_now(file: IO[Any], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
