"""Unexpected errors: the user sees one line, and the traceback goes into a file for a bug report."""

from __future__ import annotations

import os
import platform
import secrets
import time
import traceback
from pathlib import Path

from progrpo_cli import __version__

_MAX_CHARACTERS = 1 << 20  # of a traceback: an error message may contain a whole file


def write_crash_file(error: BaseException) -> Path | None:
    """Write the traceback to a file that only this user can read.

    The file contains no values of variables, no environment and no command line.

    Returns:
        The path, below ``XDG_STATE_HOME``; None if the file cannot be written.
    """
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        directory = state / "progrpo" / "crashes"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.txt"
        text = (
            f"progrpo {__version__}, Python {platform.python_version()}\n{''.join(traceback.format_exception(error))}"
        )
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text[:_MAX_CHARACTERS].encode("utf-8", "backslashreplace").decode())
    except (OSError, RuntimeError):  # there is no home directory, or it cannot be written
        return None
    return path
