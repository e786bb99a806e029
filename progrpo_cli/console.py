"""Logs and progress bars on stderr, and the console for results on stdout."""

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
WIDTH_IN_FILES = 200


class _PlainFormatter(logging.Formatter):
    """Removes escape sequences: messages contain names of directories, parameters and tags, which are untrusted."""

    def format(self, record: logging.LogRecord) -> str:
        return escape.plain_lines(super().format(record))


def set_up_logging(verbosity: int) -> None:
    """Send our log to stderr.

    Args:
        verbosity: -1: warnings only; 0: information; 1: debugging, with other libraries' logs.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter("%(message)s"))
    log.handlers = [handler]
    log.propagate = False
    log.setLevel({-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG))
    # vLLM logs to stdout unless these variables are set before it is imported.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO" if verbosity > 0 else "WARNING")
    if verbosity > 0:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)


def results() -> Console:
    """Return the console for results on stdout: as wide as the terminal, or 200 columns in a file or pipe."""
    return plain_console(width=None if sys.stdout.isatty() else WIDTH_IN_FILES)


def plain_console(**settings: Any) -> Console:
    """Return a console that prints ``[red]`` in a name literally and removes escape sequences."""
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escape.plain_lines(text), **{**options, "markup": False, "emoji": False})

    return PlainConsole(highlight=False, markup=False, emoji=False, **settings)


class Progress(Protocol):
    """Shows the progress of work whose total amount is known."""

    def update(self, done: int, text: str = "") -> None:
        """Set the amount done so far, with a short text about the state."""


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
    """Progress as plain lines, at most one every ten seconds, for files and pipes."""

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
        log.info(f"{self._title}: {done}/{self._total} {text}{self._remaining(now, done)}".rstrip())

    def _remaining(self, now: float, done: int) -> str:
        assert self._first is not None
        start, done_at_start = self._first
        if done <= done_at_start or done >= self._total:
            return ""
        seconds = (now - start) / (done - done_at_start) * (self._total - done)
        return f", about {seconds:.0f} s left"


@contextmanager
def progress(total: int, title: str) -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when the log is quiet."""
    if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
        bar = _Bar(total, title)
        with bar.rich:
            yield bar
    else:
        yield _Lines(total, title)
