"""What the commands share: options, reading their values, the log, printing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from progrpo_cli import processes
from progrpo_cli.errors import Interrupted, RequestError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only.")]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh/--resume", help="Start again (what is there is kept aside), or go on with what is there (default)."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[OVERRIDE]...", help="Hydra overrides, e.g. method=grpo train.steps=50.")
]

ConfigDir = Annotated[
    Path | None,
    typer.Option(help="A folder of your own with experiment/, method/, model/, task/ or sweeps/, beside the shipped."),
]


@contextmanager
def command(name: str, verbose: bool, quiet: bool) -> Iterator[None]:
    """Set up the log of a command, and refuse a launcher of processes for all but training."""
    from progrpo_cli.console import set_up_logging

    set_up_logging(-1 if quiet or not processes.is_main() else int(verbose))
    if name != "train":
        processes.require_one(name)
    try:
        yield
    except KeyboardInterrupt:  # Typer would make it a silent return value
        raise Interrupted("interrupted; the same command goes on") from None


def print_result(result: Mapping[str, Any], as_json: bool, text: str) -> None:
    """The result as one JSON document, or the text for people."""
    typer.echo(json.dumps(result, indent=2) if as_json else text)


def numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers that an option holds, separated by commas."""
    try:
        return tuple(float(part) + 0.0 for part in text.split(","))  # -0 is 0
    except ValueError:
        raise RequestError(f"{option} {text}: numbers separated by commas are needed") from None


def integers(option: str, text: str) -> list[int]:
    """The whole numbers that an option holds, separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"{option} {text}: whole numbers separated by commas are needed") from None
