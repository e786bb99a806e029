"""``progrpo sweep``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from progrpo_cli.commands.options import ConfigDir, Json, Overrides, Quiet, Verbose, command, integers
from progrpo_cli.errors import RequestError


def sweep(
    space: Annotated[str | None, typer.Option(help="A space of sweeps/, e.g. arm_alpha, or a YAML file.")] = None,
    overrides: Overrides = None,
    config_dir: ConfigDir = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, separated by commas; default: the space's.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials; default: the space's budget.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: the space's.")] = None,
    sampler: Annotated[str | None, typer.Option(help="grid, tpe, nsga2 or random; default: the space's.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="postgresql+psycopg://USER@HOST/DB; default: a journal file of the study.")
    ] = None,
    launcher: Annotated[str, typer.Option(help="Where workers are started: local or slurm.")] = "local",
    study: Annotated[str | None, typer.Option(help="The study's name; default: the space's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every planned run and a time estimate.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Print the state of the study.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try runs again that have failed too often.")
    ] = False,
    worker: Annotated[bool, typer.Option("--worker", help="Run one worker of an existing --study.")] = False,
    trust_config: Annotated[
        bool,
        typer.Option(
            "--trust-config", help="Allow code, hosts and files that study.yaml (--worker) or the --space file names."
        ),
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run a space of configurations over several seeds; the same command again runs only what is missing."""
    with command("sweep", verbose, quiet):
        from progrpo_cli.studies import start
        from progrpo_cli.studies.open import Settings

        if trust_config and not worker and not (space or "").endswith(".yaml"):
            raise RequestError(
                "--trust-config is for --worker and for the file of a space: a shipped space does not need it"
            )
        if worker:
            start.work(study, storage, trust_config=trust_config)
            return
        if status:
            result = start.status(study, space, storage)
        else:
            settings = Settings(
                seeds=None if seeds is None else integers("--seeds", seeds),
                trials=trials,
                workers=workers,
                sampler=sampler,
                storage=storage,
                launcher=launcher,
                trust_config=trust_config,
                config_dir=config_dir,
            )
            result = start.sweep(
                space, overrides or [], settings, study=study, dry_run=dry_run, retry_failed=retry_failed
            )
        if as_json:
            typer.echo(json.dumps(result, indent=2))
        else:
            _print_study(result)


def _print_study(result: dict[str, Any]) -> None:
    """Print the planned runs, or the table of trials."""
    from rich.table import Table

    from progrpo_cli.console import results

    console = results()
    if "estimate" in result or not result["trials"]:
        table = Table(title=f"{result['study_dir']}: {result.get('runs_in_all', len(result['runs']))} runs planned")
        rows = result["runs"]
        hidden = ("error", "updates", "seconds", "worker")
        for column in (columns := [c for c in (rows[0] if rows else {}) if "validation/" not in c and c not in hidden]):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
        console.print(table)
        if "estimate" in result:
            console.print(f"{result['runs_to_do']} runs to do: {result['estimate']}", markup=False)
        return
    metrics = [key for key in result["trials"][0] if key.startswith("pass@") or key in ("entropy", "distinct_correct")]
    has_front = len(result["objectives"]) > 1
    table = Table(
        title=f"{result['study_dir']}: validation split, mean over seeds with 95 % interval, ordered by "
        f"{result['objective']['metric']}"
    )
    for column in ("parameters", "seeds", *metrics, *(["front"] if has_front else [])):
        table.add_column(column)
    for row in result["trials"]:
        parameters = ", ".join(f"{key}={_short(value)}" for key, value in row["parameters"].items())
        intervals = (f"{row[m]['value']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in metrics)
        table.add_row(parameters, str(row["seeds"]), *intervals, *(["*" if row["front"] else ""] if has_front else []))
    console.print(table)
    states = [row["status"] for row in result["runs"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    console.print(f"runs: {counts}", markup=False)
    if has_front:
        console.print("*: no other trial is better in every objective", markup=False)
    if result["verdict"]:
        console.print(result["verdict"], markup=False)
    console.print(f"next: progrpo report {result['study_dir']}", markup=False)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
