"""Options that several commands have, and functions to set up a command, parse values and print results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from progrpo_cli import escape, processes
from progrpo_cli.errors import Interrupted, RequestError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only.")]
Fresh = Annotated[
    bool,
    typer.Option("--fresh/--resume", help="Start again (existing results are set aside), or continue (default)."),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[OVERRIDE]...", help="Hydra overrides, e.g. method=grpo train.steps=50.")
]

ConfigDir = Annotated[
    Path | None,
    typer.Option(help="Your own folder with experiment/, method/, model/, task/ or sweeps/; it adds to the shipped."),
]


@contextmanager
def command(name: str, verbose: bool, quiet: bool) -> Iterator[None]:
    """Context manager around a command: sets up its log, and allows several processes only for training.

    Raises:
        RequestError: more than one process was started.
        Interrupted: SIGINT or SIGTERM arrived.
    """
    from progrpo_cli.console import set_up_logging

    set_up_logging(-1 if quiet or not processes.is_main() else int(verbose))
    if name != "train":
        processes.require_one(name)
    try:
        yield
    except KeyboardInterrupt:  # Typer would turn it into a return value without a message
        raise Interrupted("interrupted; the same command continues") from None


def print_result(result: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print the result as one JSON document, or else ``text``."""
    typer.echo(json.dumps(result, indent=2) if as_json else escape.plain_lines(text))


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Parse numbers separated by commas."""
    try:
        return tuple(float(part) + 0.0 for part in text.split(","))  # + 0.0 makes -0 the same as 0
    except ValueError:
        raise RequestError(f"{option} {text}: numbers separated by commas are needed") from None


def integers(option: str, text: str) -> list[int]:
    """Parse integers separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"{option} {text}: whole numbers separated by commas are needed") from None
