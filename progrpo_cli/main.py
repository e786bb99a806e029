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

_LONGEST = 2000
"""Characters of a message: what is wrong with a file of a gigabyte is said in a line of a screen or two."""
# The class of every complaint of the parser. Typer carries a copy of Click whose names are private; this one is public.
_UsageError: Any = typer.BadParameter.__bases__[0]


def _print_version(asked: bool) -> None:
    if asked:
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
    """Run the command line and leave with the exit code of the contract."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to stop is like Ctrl-C
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
        where = "" if is_full(error) else _kept(error)
        _fail(f"{error}; what was written before is kept, the same command goes on{where}", 1)
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}{_kept(error)}", 1)


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _kept(error: Exception) -> str:
    """Where the traceback of what nobody foresaw is, for the end of the line."""
    path = write_crash_file(error)
    return f" (traceback: {path})" if path else ""


def _fail(message: str, code: int) -> None:
    if "--json" in sys.argv and processes.is_main():  # a complaint of the parser comes before the option was read
        typer.echo(json.dumps({"error": message, "exit_code": code}))
    message = message if len(message) < _LONGEST else f"{message[: _LONGEST - 200]} ... {message[-200:]}"
    who = "progrpo" if processes.is_main() else f"progrpo, process {processes.rank()}"
    typer.echo(f"{who}: {escape.plain(' '.join(message.split()))}", err=True)  # names of runs in it are untrusted
    sys.exit(code)
