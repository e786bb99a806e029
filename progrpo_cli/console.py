"""What people see while something runs: logs and progress on stderr. Results go to stdout and are not printed here."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from progrpo_cli import escape

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("progrpo")

PLAIN_LINE_SECONDS = 10.0
WIDTH_OF_A_FILE = 200


class _Plain(logging.Formatter):
    """Names of directories, parameters and tags are in what we log: no escape sequence reaches the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return escape.plain_lines(super().format(record))


def set_up_logging(verbosity: int) -> None:
    """Send our log to stderr: verbosity -1 warnings only, 0 information, 1 debugging (other libraries' logs too)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    log.handlers = [handler]
    log.propagate = False
    log.setLevel({-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG))
    # vLLM, where it is installed, logs to stdout unless it is told otherwise before it is imported.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO" if verbosity > 0 else "WARNING")
    if verbosity > 0:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)


def results() -> Console:
    """The console for results, on stdout: as wide as the terminal, and wide enough for a table in a file."""
    return plain_console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)


def plain_console(**settings: Any) -> Console:
    """A console that shows every text as it is: ``[red]`` in a name is no markup, escape sequences are left out."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escape.plain_lines(text), **{**options, "markup": False, "emoji": False})

    return Plain(highlight=False, markup=False, emoji=False, **settings)


class Progress(Protocol):
    """A piece of work with a known amount."""

    def update(self, done: int, text: str = "") -> None:
        """Say how much is done in all, with a few words about the state."""


class _Bar:
    """A rich progress bar, for terminals."""

    def __init__(self, total: int, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self.rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(stderr=True),
        )
        self._task = self.rich.add_task(escape.plain(title), total=total, text="")

    def update(self, done: int, text: str = "") -> None:
        self.rich.update(self._task, completed=done, text=escape.plain(text))


class _Lines:
    """A plain line now and then, for files and pipes."""

    def __init__(self, total: int, title: str) -> None:
        self._total, self._title = total, title
        self._first: tuple[float, int] | None = None
        self._last_line = time.monotonic()

    def update(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        if now - self._last_line < PLAIN_LINE_SECONDS and done < self._total:
            return
        self._last_line = now
        log.info(f"{self._title}: {done}/{self._total} {text}{self._time_left(now, done)}".rstrip())

    def _time_left(self, now: float, done: int) -> str:
        assert self._first is not None
        began, done_then = self._first
        if done <= done_then or done >= self._total:
            return ""
        left = (now - began) / (done - done_then) * (self._total - done)
        return f", about {left:.0f} s left"


@contextmanager
def progress(total: int, title: str) -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when the log is quiet."""
    if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
        bar = _Bar(total, title)
        with bar.rich:
            yield bar
    else:
        yield _Lines(total, title)
