"""``progrpo list``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from progrpo_cli.commands.options import Json, Quiet, Verbose, command, print_result
from progrpo_cli.config import paths
from progrpo_cli.errors import RequestError, nearest


def list_command(
    what: Annotated[str, typer.Argument(metavar="runs|methods|tasks|spaces|experiments", help="What to list.")],
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """List what there is."""
    with command("list", verbose, quiet):
        listed = rows(what)
        print_result({what: listed}, as_json, text(listed))


def rows(what: str) -> list[dict[str, Any]]:
    """What there is of runs, methods, tasks, spaces or experiments: a row each.

    Raises:
        RequestError: there is no such thing to list.
    """
    groups = {
        "methods": paths.EXPERIMENTS / "method",
        "tasks": paths.EXPERIMENTS / "task",
        "experiments": paths.EXPERIMENTS / "experiment",
        "spaces": paths.SWEEPS,
    }
    if what == "runs":
        return _runs()
    if what not in groups:
        raise RequestError(f"cannot list {what!r}{nearest(what, [*groups, 'runs'])}")
    return [
        {"name": name, "about": _first_comment(groups[what] / f"{name}.yaml")} for name in paths.names(groups[what])
    ]


def _runs() -> list[dict[str, Any]]:
    from progrpo_cli.records.find import find_runs

    listed = []
    for run in find_runs(paths.RUNS) if paths.RUNS.is_dir() else []:
        manifest = run.manifest()
        listed.append(
            {
                "directory": str(run.path),
                "status": run.status(),
                "config_hash": manifest["config_hash"],
                "seed": manifest["seed"],
                "started_at": manifest["started_at"],
                "evaluations": len(run.scores_files()),
            }
        )
    return listed


def _first_comment(path: Path) -> str:
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    return next((line.removeprefix("# ") for line in comments if not line.startswith("# @package")), "")


def text(listed: list[dict[str, Any]]) -> str:
    """The rows as aligned columns."""
    if not listed:
        return "nothing yet"
    table = [list(listed[0]), *([str(value) for value in row.values()] for row in listed)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )
