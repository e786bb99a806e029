"""``progrpo list``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from progrpo_cli.commands.options import Json, Quiet, Verbose, command, print_result
from progrpo_cli.config import paths
from progrpo_cli.errors import RequestError, nearest


def list_command(
    category: Annotated[str, typer.Argument(metavar="runs|methods|tasks|spaces|experiments", help="What to list.")],
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """List runs, methods, tasks, spaces or experiments."""
    with command("list", verbose, quiet):
        rows = list_rows(category)
        print_result({category: rows}, as_json, format_columns(rows))


def list_rows(category: str) -> list[dict[str, Any]]:
    """Return a row for each run, method, task, space or experiment.

    Raises:
        RequestError: the category is unknown.
    """
    groups = {
        "methods": paths.EXPERIMENTS / "method",
        "tasks": paths.EXPERIMENTS / "task",
        "experiments": paths.EXPERIMENTS / "experiment",
        "spaces": paths.SWEEPS,
    }
    if category == "runs":
        return _run_rows()
    if category not in groups:
        raise RequestError(f"cannot list {category!r}{nearest(category, [*groups, 'runs'])}")
    group = groups[category]
    return [{"name": name, "about": _first_comment(group / f"{name}.yaml")} for name in paths.names(group)]


def _run_rows() -> list[dict[str, Any]]:
    from progrpo_cli.records.find import find_runs

    rows = []
    for run in find_runs(paths.RUNS) if paths.RUNS.is_dir() else []:
        manifest = run.manifest()
        rows.append(
            {
                "directory": str(run.path),
                "status": run.status(),
                "config_hash": manifest["config_hash"],
                "seed": manifest["seed"],
                "started_at": manifest["started_at"],
                "evaluations": len(run.scores_files()),
            }
        )
    return rows


def _first_comment(path: Path) -> str:
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    return next((line.removeprefix("# ") for line in comments if not line.startswith("# @package")), "")


def format_columns(rows: list[dict[str, Any]]) -> str:
    """Format rows as aligned columns."""
    if not rows:
        return "nothing yet"
    table = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )
