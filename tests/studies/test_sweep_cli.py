"""A study through the real command line: two worker processes, Optuna's journal, TRL."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from command_line import TINY, CommandLine, kill, read_metrics, wait_for
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from progrpo_cli.studies.plan import load_plan

SWEEP = ["sweep", "--space", "arm_alpha", *TINY, "train.steps=2", "--seeds", "0,1", "--study", "small"]
ALPHAS = ["0.0", "0.3", "1.0", "2.0", "4.0"]


def trials(study: Path) -> list[dict[str, str]]:
    with (study / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def optuna_study(study: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(study / "optuna.journal")))
    return optuna.load_study(study_name=study.name, storage=storage)


def workers_of(study: Path) -> list[int]:
    """Process ids of the study's workers on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "--worker" in words and os.readlink(entry / "cwd") == str(study.parents[1]):
                found.append(int(entry.name))
    return found


def assert_complete(study: Path) -> None:
    rows = trials(study)
    assert [(row["method.arm.alpha"], row["seed"]) for row in rows] == [(a, s) for a in ALPHAS for s in ("0", "1")]
    assert {row["status"] for row in rows} == {"complete"}
    record = optuna_study(study)
    assert [trial.state.name for trial in record.trials] == ["COMPLETE"] * 5
    for trial in record.trials:
        of_trial = [row for row in rows if float(row["method.arm.alpha"]) == trial.params["method.arm.alpha"]]
        mean = sum(float(row["validation/pass@32"]) for row in of_trial) / 2
        assert trial.value == pytest.approx(mean)
        assert trial.user_attrs["config_hash"] == of_trial[0]["config_hash"]
    for row in rows:
        run = study.parents[1] / row["run_dir"]
        assert run.name == f"{row['config_hash']}-s{row['seed']}"
        assert (run / "policy" / "model.safetensors").is_file()
        scores = [json.loads(path.read_text()) for path in run.glob("eval/*/scores.json")]
        assert [score["split"] for score in scores] == ["validation"]  # test problems are never looked at
        assert scores[0]["pass@32"]["value"] == pytest.approx(float(row["validation/pass@32"]))


def test_two_workers_do_every_run_once_and_the_same_command_does_nothing_more(progrpo: CommandLine) -> None:
    result = progrpo.json(*SWEEP)
    study = progrpo.directory / result["study_dir"]
    assert_complete(study)
    assert {row["attempts"] for row in trials(study)} == {"1"}
    assert len(list((study / "logs").glob("worker-*.log"))) == 2
    manifests = [json.loads((study.parents[1] / row["run_dir"] / "manifest.json").read_text()) for row in trials(study)]
    assert len({manifest["wandb_run_id"] for manifest in manifests}) == 10
    best = result["trials"][0]
    assert best["objective"] == max(trial.value for trial in optuna_study(study).trials)
    assert best["pass@32"]["low"] <= best["pass@32"]["value"] <= best["pass@32"]["high"]

    before = {path: path.stat().st_mtime_ns for path in study.rglob("metrics.jsonl")}
    began = time.monotonic()
    again = progrpo.json(*SWEEP)
    assert again["trials"] == result["trials"]
    assert time.monotonic() - began < 20
    assert {path: path.stat().st_mtime_ns for path in study.rglob("metrics.jsonl")} == before

    # A worker trains run after run in one process: its last one is the run that `train` alone makes.
    alone = progrpo.json("train", "method.arm.alpha=4.0", "seed=1", *TINY, "train.steps=2", "--run-dir", "alone")
    last = trials(study)[-1]
    assert (last["method.arm.alpha"], last["seed"], last["config_hash"]) == ("4.0", "1", alone["config_hash"])
    in_worker = read_metrics(study.parents[1] / last["run_dir"])
    for ours, theirs in zip(in_worker, read_metrics(progrpo.directory / "alone"), strict=True):
        assert {**ours, "step_seconds": 0} == {**theirs, "step_seconds": 0}

    other = progrpo(*SWEEP, "train.learning_rate=1e-3")
    assert other.returncode == 2
    assert "another one" in other.stderr
    assert load_plan(study).seeds == (0, 1)


def test_kill_nine_of_everything_then_the_same_command_completes(progrpo: CommandLine) -> None:
    process = progrpo.start(*SWEEP)
    study = progrpo.directory / "runs" / "small"
    wait_for(lambda: len(list(study.glob("trials/*/metrics.jsonl"))) >= 3, process)
    done_before = {path: path.stat().st_mtime_ns for path in study.glob("trials/*/eval/*/scores.json")}
    workers = workers_of(study)
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    kill(process)
    (study / ".journal.lock").touch()  # a lock file that nobody holds must not block the next start
    again = progrpo(*SWEEP)
    assert again.returncode == 0, again.stderr
    assert_complete(study)
    assert {path: path.stat().st_mtime_ns for path in done_before} == done_before, "a finished evaluation was repeated"


def test_the_workers_end_with_their_parent(progrpo: CommandLine) -> None:
    process = progrpo.start(*SWEEP, "train.steps=400")
    study = progrpo.directory / "runs" / "small"
    wait_for(lambda: len(list(study.glob("trials/*/metrics.jsonl"))) >= 2, process)
    assert len(workers_of(study)) == 2
    kill(process)
    deadline = time.monotonic() + 60
    while workers_of(study):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)
    assert {row["status"] for row in progrpo.json(*SWEEP, "train.steps=400", "--dry-run")["runs"]} == {
        "interrupted",
        "planned",
    }


def test_a_run_that_fails_leaves_the_others_and_its_reason(progrpo: CommandLine) -> None:
    planned = progrpo.json(*SWEEP, "--dry-run")["runs"]
    study = progrpo.directory / "runs" / "small"
    # A file where the first run's checkpoints should go makes its training fail for real.
    process = progrpo.start(*SWEEP)
    blocked = progrpo.directory / planned[0]["run_dir"] / "checkpoints"
    wait_for(lambda: blocked.parent.is_dir(), process)
    blocked.write_text("in the way")
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1, err
    rows = trials(study)
    assert [row["status"] for row in rows].count("failed") == 1
    assert rows[0]["status"] == "failed"
    assert rows[0]["error"]
    assert planned[0]["run_dir"] in err.splitlines()[-1]
    blocked.unlink()
    assert progrpo(*SWEEP).returncode == 0
    assert_complete(study)
    assert int(trials(study)[0]["attempts"]) >= 1
