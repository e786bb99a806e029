"""Checks that a study has to pass whatever was killed while it ran, and functions that kill workers."""

import csv
import json
import os
import signal
from pathlib import Path

from progrpo_cli.records.files import read_lines
from progrpo_cli.studies.optuna_trials import OptunaStudy
from progrpo_cli.studies.plan import load_plan
from progrpo_cli.studies.storage import open_store

Finished = dict[str, tuple[int, ...]]


def csv_rows(study: Path) -> list[dict[str, str]]:
    with (study / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def finished_runs(study: Path) -> Finished:
    """Return the modification times of complete runs' files, which change if a run is trained or sampled again."""
    runs = {}
    for entry in study.glob("ledger/*.json"):
        if json.loads(entry.read_text())["result"]:
            run = study / "trials" / entry.stem
            files = [run / "policy" / "model.safetensors", run / "metrics.jsonl", *run.glob("eval/*/samples.jsonl")]
            runs[entry.stem] = tuple(file.stat().st_mtime_ns for file in files)
    return runs


def check_study(study: Path, *, earlier: list[Finished] | None = None) -> None:
    """Check after the end of the command: every run is complete exactly once, and no finished run was repeated."""
    plan = load_plan(study)
    optuna_study = OptunaStudy(plan, open_store(study, plan.storage))
    trials = optuna_study.trials()
    assert [known.state.name for known in trials] == ["COMPLETE"] * len(trials)
    hashes = [known.trial.config_hash for known in trials]
    assert len(set(hashes)) == len(hashes)
    if plan.grid:
        assert sorted(hashes) == sorted(trial.config_hash for trial in plan.grid)
    rows = csv_rows(study)
    assert sorted((row["config_hash"], int(row["seed"])) for row in rows) == sorted(
        (config_hash, seed) for config_hash in hashes for seed in plan.seeds
    )
    assert {row["status"] for row in rows} == {"complete"}
    for known in trials:
        values = [float(row["validation/pass@32"]) for row in rows if row["config_hash"] == known.trial.config_hash]
        assert known.values is not None
        assert abs(known.values[0] - sum(values) / len(values)) < 1e-12
    for row in rows:
        run = study.parents[1] / row["run_dir"]
        steps = [line["step"] for line in read_lines(run / "metrics.jsonl")]
        assert steps == list(range(1, len(steps) + 1)), "an update is repeated or missing"
        (scores,) = run.glob("eval/*/scores.json")
        assert json.loads(scores.read_text())["split"] == "validation"
    now = finished_runs(study)
    for before in earlier or []:
        assert {name: now[name] for name in before} == before, "a finished run was repeated"


def workers_of(study: Path) -> list[int]:
    """Return the process ids of the study's workers on this machine."""
    workers = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode().split("\0")
                if "--worker" in arguments and os.readlink(entry / "cwd") == str(study.parents[1]):
                    workers.append(int(entry.name))
            except OSError:
                continue
    return workers


def kill_nine(processes: list[int]) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)
