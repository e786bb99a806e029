"""What nobody foresaw: one line for the user, and a file with the traceback for whoever mends it."""

from __future__ import annotations

import os
import platform
import secrets
import time
import traceback
from pathlib import Path

from progrpo_cli import __version__

_LONGEST = 1 << 20  # characters of a traceback: a message may hold a whole file


def write_crash_file(error: BaseException) -> Path | None:
    """Write the traceback where only this user can read it: no values of variables, no environment, no command line.

    Returns:
        The file, below ``XDG_STATE_HOME``; None where none can be written.
    """
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        directory = state / "progrpo" / "crashes"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.txt"
        told = (
            f"progrpo {__version__}, Python {platform.python_version()}\n{''.join(traceback.format_exception(error))}"
        )
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(told[:_LONGEST].encode("utf-8", "backslashreplace").decode())
    except (OSError, RuntimeError):  # no home, or none that can be written
        return None
    return path
