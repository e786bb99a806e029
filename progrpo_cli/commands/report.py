"""``progrpo report``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError

OUT = Path("report")
DIFFERENCE = 0.05
"""What ``--power`` plans for, in the unit of each metric."""


def report(
    sources: Sequence[str],
    *,
    formats: Sequence[str] | None = None,
    out: Path | None = None,
    baseline: str | None = None,
    k: Sequence[int] | None = None,
    mixed: bool = False,
    offline: bool = False,
    training: bool = False,
    power: bool = False,
    difference: float = DIFFERENCE,
    as_json: bool = False,
) -> None:
    """Build the report, print its tables (or one JSON document) to stdout and say which files were written.

    Raises:
        RequestError, WorkError: see :func:`progrpo_cli.reporting.build.build_report`; a difference that is not above 0.
    """
    if not 0 < difference < math.inf:
        raise RequestError(f"--difference {difference:g}: a number above 0 is needed, e.g. {DIFFERENCE}")
    if difference != DIFFERENCE and not power:
        raise RequestError(f"--difference {difference:g} is what --power plans for: give --power too")
    from progrpo_cli.reporting.build import FORMATS, build_report
    from progrpo_cli.reporting.rendering import render

    wanted = FORMATS if formats is None else formats
    result = build_report(
        sources,
        out=out or OUT,
        formats=wanted,
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
    elif "term" in wanted:
        render.to_terminal(result.main, result.notes)
        sys.stdout.write("\n" + "\n".join(result.terminal_figure) + "\n")
        planned = [result.power] if result.power else []
        for table in (*result.frontier, *result.ablations, *result.training, *planned, result.published):
            render.to_terminal(table, [])
