"""``progrpo report``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from progrpo_cli.commands.options import Json, Quiet, Verbose, command, integers
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError

OUT = Path("report")
DIFFERENCE = 0.05
"""The default difference for ``--power``, in the unit of each metric."""


def report(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Run or study directories, wandb:ENTITY/PROJECT, wandb-offline:DIR; default: runs/.",
        ),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="term, md, tex, csv, html, separated by commas.")] = (
        "term,md,tex,csv,html"
    ),
    out: Annotated[Path, typer.Option(help="The directory for the files.")] = OUT,
    baseline: Annotated[str | None, typer.Option(help="The method to compare with; default: grpo.")] = None,
    k: Annotated[str | None, typer.Option(help="The k of Pass@k; default: all that were evaluated.")] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Show results that were measured differently together, with footnotes.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not contact a W&B server; use runs that were fetched before.")
    ] = False,
    training: Annotated[bool, typer.Option("--training", help="Also show Pass@k on the training problems.")] = False,
    power: Annotated[
        bool, typer.Option("--power", help="Estimate how many seeds and problems show a difference with power 80 %.")
    ] = False,
    difference: Annotated[float, typer.Option(help="The difference for --power, in a metric's own unit.")] = DIFFERENCE,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Make tables and figures from run directories or W&B."""
    with command("report", verbose, quiet):
        print_report(
            sources or [],
            formats=formats.split(","),
            out=out,
            baseline=baseline,
            k=None if k is None else integers("--k", k),
            mixed=mixed,
            offline=offline,
            training=training,
            power=power,
            difference=difference,
            as_json=as_json,
        )


def print_report(
    sources: Sequence[str],
    *,
    formats: Sequence[str] | None = None,
    out: Path = OUT,
    baseline: str | None = None,
    k: Sequence[int] | None = None,
    mixed: bool = False,
    offline: bool = False,
    training: bool = False,
    power: bool = False,
    difference: float = DIFFERENCE,
    as_json: bool = False,
) -> None:
    """Build the report, print its tables (or one JSON document) to stdout, and log which files were written.

    Raises:
        RequestError: the difference is not above 0, or is given without ``power``, or see
            :func:`progrpo_cli.reporting.build.build_report`.
        WorkError: see there.
    """
    if not 0 < difference < math.inf:
        raise RequestError(f"--difference {difference:g}: a number above 0 is needed, e.g. {DIFFERENCE}")
    if difference != DIFFERENCE and not power:
        raise RequestError(f"--difference {difference:g} needs --power")
    from progrpo_cli.reporting.build import FORMATS, build_report
    from progrpo_cli.reporting.rendering import render

    formats = FORMATS if formats is None else formats
    result = build_report(
        sources,
        out=out,
        formats=formats,
        baseline=baseline,
        ks=k,
        mixed=mixed,
        offline=offline,
        training=training,
        power=difference if power else None,
    )
    top = [file.name for file in result.files if file.parent == result.out]
    log.info(f"wrote {', '.join(top)} and {len(result.files) - len(top)} files of figures to {result.out}")
    if as_json:
        document = {
            "out": str(result.out),
            "files": [str(file) for file in result.files],
            "main": render.json_rows(result.main),
            **{table.name: render.json_rows(table) for table in (*result.frontier, *result.training)},
            **({"power": render.json_rows(result.power)} if result.power else {}),
            "notes": result.notes,
        }
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    elif "term" in formats:
        render.to_terminal(result.main, result.notes)
        sys.stdout.write("\n" + "\n".join(result.terminal_figure) + "\n")
        power_tables = [result.power] if result.power else []
        for table in (*result.frontier, *result.ablations, *result.training, *power_tables, result.published):
            render.to_terminal(table, [])
