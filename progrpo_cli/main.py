"""The command line: parse, call one function, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from typing import Annotated, Any

import typer

from progrpo_cli import __version__, escape, processes
from progrpo_cli.commands.evaluate import evaluate
from progrpo_cli.commands.listing import list_command
from progrpo_cli.commands.report import report
from progrpo_cli.commands.sweep import sweep
from progrpo_cli.commands.train import train
from progrpo_cli.crash import write_crash_file
from progrpo_cli.errors import ProgrpoError, RequestError

app = typer.Typer(
    name="progrpo",
    help="A laboratory for exploration in reinforcement learning with verifiable rewards.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_MAX_CHARACTERS = 2000
"""Limit of an error message, which may quote a large file."""
# The base class of the parser's errors. Typer's copy of Click is private; this is a public way to the class.
_UsageError: Any = typer.BadParameter.__bases__[0]


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"progrpo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


app.command()(train)
app.command("eval")(evaluate)
app.command()(sweep)
app.command()(report)
app.command("list")(list_command)


def run() -> None:
    """Run the command line and exit: 0 success, 1 failed work, 2 an invalid request, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's SIGTERM is treated like Ctrl-C
    try:
        os.getcwd()
        app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except _UsageError as error:
        _fail(error.format_message(), RequestError.exit_code)
    except ProgrpoError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        from progrpo_cli.records.files import is_full

        if error.errno == errno.ENAMETOOLONG:
            _fail(f"{error.filename}: the path is too long", RequestError.exit_code)
        if error.errno == errno.ENOENT and not _has_working_directory():
            _fail("the working directory does not exist any more", RequestError.exit_code)
        traceback = "" if is_full(error) else _write_traceback(error)
        _fail(f"{error}; files written so far are kept, and the same command continues{traceback}", 1)
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}{_write_traceback(error)}", 1)


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _write_traceback(error: Exception) -> str:
    """Write the traceback of an unexpected error; return where it is, for the end of the message."""
    path = write_crash_file(error)
    return f" (traceback: {path})" if path else ""


def _fail(message: str, code: int) -> None:
    if "--json" in sys.argv and processes.is_main():  # a parser error comes before the option has been read
        typer.echo(json.dumps({"error": message, "exit_code": code}))
    message = message if len(message) < _MAX_CHARACTERS else f"{message[: _MAX_CHARACTERS - 200]} ... {message[-200:]}"
    sender = "progrpo" if processes.is_main() else f"progrpo, process {processes.rank()}"
    typer.echo(f"{sender}: {escape.plain(' '.join(message.split()))}", err=True)  # it may contain untrusted names
    sys.exit(code)
