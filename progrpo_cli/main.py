"""The command line: parse, call one function, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from typing import Annotated, Any

import typer

from progrpo_cli import __version__, escape, processes
from progrpo_cli.commands.evaluate import evaluate
from progrpo_cli.commands.listing import list_command
from progrpo_cli.commands.report import report
from progrpo_cli.commands.sweep import sweep
from progrpo_cli.commands.train import train
from progrpo_cli.errors import ProgrpoError, RequestError

app = typer.Typer(
    name="progrpo",
    help="A laboratory for exploration in reinforcement learning with verifiable rewards.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

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
        app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except _UsageError as error:
        _fail(error.format_message(), RequestError.exit_code)
    except ProgrpoError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        from progrpo_cli.records.files import is_full

        if not is_full(error):
            traceback.print_exc()
        _fail(f"{error}; what was written before is kept, the same command goes on", 1)
    except Exception as error:
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {error}", 1)


def _fail(message: str, code: int) -> None:
    if "--json" in sys.argv and processes.is_main():  # a complaint of the parser comes before the option was read
        typer.echo(json.dumps({"error": message, "exit_code": code}))
    who = "progrpo" if processes.is_main() else f"progrpo, process {processes.rank()}"
    typer.echo(f"{who}: {escape.plain(' '.join(message.split()))}", err=True)  # names of runs in it are untrusted
    sys.exit(code)
