"""``progrpo sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from progrpo_cli.console import log, results
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.sampling.vllm_setup import require_generation
from progrpo_cli.studies.overview import rows, trial_table, write_trials_csv
from progrpo_cli.studies.plan import Plan, make_plan
from progrpo_cli.studies.space import load_space
from progrpo_cli.tracking.wandb_run import wandb_mode

RUNS = Path("runs")


def sweep(
    space: str | None,
    overrides: list[str],
    *,
    seeds: list[int] | None,
    workers: int | None,
    study: str | None,
    dry_run: bool,
) -> dict[str, Any]:
    """Run what is missing of a study and return its trials, best first.

    Raises:
        RequestError: the space, an override or the study's directory is not valid.
        WorkError: runs failed; all others are complete.
    """
    loaded = load_space(space)
    name = str(space) if study is None else study
    if Path(name).name != name or name in ("", ".", ".."):
        raise RequestError(f"--study {name}: a name without slashes is needed; it becomes a directory of {RUNS}/")
    plan = make_plan(loaded, overrides, RUNS / name, seeds=seeds, workers=workers)
    wandb_mode(plan.trials[0].config.tracking.wandb.mode)
    result = {"study": name, "study_dir": str(plan.directory), "objective": plan.objective.model_dump()}
    if dry_run:
        return {**result, "runs": rows(plan)}
    _require_generation(plan)
    plan.freeze()
    open_runs = sum(row["status"] != "complete" for row in rows(plan))
    log.info(f"study {plan.directory}: {len(plan.trials)} trials x {len(plan.seeds)} seeds, {open_runs} runs to do")
    if open_runs:
        from progrpo_cli.studies.local import run_workers

        run_workers(plan)
    done = write_trials_csv(plan)
    failed = [row for row in done if row["status"] != "complete"]
    if failed:
        reasons = "; ".join(f"{row['run_dir']}: {row['error'] or row['status']}" for row in failed[:3])
        raise WorkError(
            f"{len(failed)} of {len(done)} runs are not complete ({reasons}); logs in {plan.directory}/logs"
        )
    return {**result, "runs": done, "trials": trial_table(plan)}


def _require_generation(plan: Plan) -> None:
    ways = {trial.config.train.generation for trial in plan.trials}
    for way in ways:
        require_generation(way)
    if plan.workers > 1 and any(way.mode == "server" for way in ways):
        raise RequestError(
            f"train.generation.mode=server: a server holds one run's weights at a time, and there are {plan.workers} "
            f"workers; try --workers 1"
        )


def work(study: str | None) -> None:
    """Be a worker of a study that exists: its name, or its directory.

    Raises:
        RequestError: there is no such study.
    """
    if study is None:
        raise RequestError("--worker needs --study: the name or directory of a study that was started")
    directory = Path(study) if (Path(study) / "study.yaml").is_file() else RUNS / study
    if not (directory / "study.yaml").is_file():
        raise RequestError(f"no study in {directory}; `progrpo sweep --space NAME` starts one")
    from progrpo_cli.studies.worker import work as work_here

    work_here(directory)


def show(result: dict[str, Any]) -> None:
    """Print the study's trials, or the plan."""
    from rich.table import Table

    console = results()
    if "trials" not in result:
        table = Table(title=f"{result['study_dir']}: {len(result['runs'])} runs planned")
        columns = [
            key
            for key in result["runs"][0]
            if not key.startswith("validation/") and key not in ("error", "updates", "seconds")
        ]
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in result["runs"]:
            table.add_row(*(str(row[column]) for column in columns))
        console.print(table)
        return
    metrics = [key for key in result["trials"][0] if key.startswith("pass@")]
    table = Table(
        title=f"{result['study_dir']}: validation split, mean over seeds with 95 % interval, best "
        f"{result['objective']['metric']} first"
    )
    for column in ("parameters", "seeds", *metrics):
        table.add_column(column)
    for row in result["trials"]:
        parameters = ", ".join(f"{key}={value}" for key, value in row["parameters"].items())
        intervals = (f"{row[m]['value']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in metrics)
        table.add_row(parameters, str(row["seeds"]), *intervals)
    console.print(table)
    console.print(f"next: progrpo report {result['study_dir']}", markup=False)
