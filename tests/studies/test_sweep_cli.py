"""A study through the real command line: two worker processes, Optuna's journal, TRL."""

import csv
import json
import time
from pathlib import Path

import optuna
import pytest
from command_line import TINY, CommandLine, read_metrics, without_times
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from studies.postgresql import PostgreSQL

from progrpo_cli.studies.plan import load_plan

SWEEP = ["sweep", "--space", "arm_alpha", *TINY, "train.steps=2", "--seeds", "0,1", "--trials", "3", "--study", "small"]
ALPHAS = ["0.0", "0.3", "1.0"]


def trials(study: Path) -> list[dict[str, str]]:
    with (study / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def load_optuna_study(study: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(study / "optuna.journal")))
    return optuna.load_study(study_name=study.name, storage=storage)


def assert_complete(study: Path) -> None:
    rows = trials(study)
    assert [(row["method.arm.alpha"], row["seed"]) for row in rows] == [(a, s) for a in ALPHAS for s in ("0", "1")]
    assert {row["status"] for row in rows} == {"complete"}
    optuna_study = load_optuna_study(study)
    assert [trial.state.name for trial in optuna_study.trials] == ["COMPLETE"] * 3
    for trial in optuna_study.trials:
        trial_rows = [row for row in rows if float(row["method.arm.alpha"]) == trial.params["method.arm.alpha"]]
        mean = sum(float(row["validation/pass@32"]) for row in trial_rows) / 2
        assert trial.value == pytest.approx(mean)
        assert trial.user_attrs["config_hash"] == trial_rows[0]["config_hash"]
    for row in rows:
        run = study.parents[1] / row["run_dir"]
        assert run.name == f"{row['config_hash']}-s{row['seed']}"
        assert (run / "policy" / "model.safetensors").is_file()
        scores = [json.loads(path.read_text()) for path in run.glob("eval/*/scores.json")]
        assert [score["split"] for score in scores] == ["validation"]  # a sweep never uses test problems
        assert scores[0]["pass@32"]["value"] == pytest.approx(float(row["validation/pass@32"]))


def test_two_workers_do_every_run_once_and_the_same_command_repeats_nothing(progrpo: CommandLine) -> None:
    result = progrpo.json(*SWEEP)
    study = progrpo.directory / result["study_dir"]
    assert_complete(study)
    assert {row["attempts"] for row in trials(study)} == {"1"}
    assert len(list((study / "logs").glob("worker-*.log"))) == 2
    manifests = [json.loads((study.parents[1] / row["run_dir"] / "manifest.json").read_text()) for row in trials(study)]
    assert len({manifest["wandb_run_id"] for manifest in manifests}) == 6
    best = result["trials"][0]
    assert best["objective"] == max(trial.value for trial in load_optuna_study(study).trials)
    assert best["pass@32"]["low"] <= best["pass@32"]["value"] <= best["pass@32"]["high"]

    before = {path: path.stat().st_mtime_ns for path in study.rglob("metrics.jsonl")}
    start = time.monotonic()
    again = progrpo.json(*SWEEP)
    assert again["trials"] == result["trials"]
    assert time.monotonic() - start < 20
    assert {path: path.stat().st_mtime_ns for path in study.rglob("metrics.jsonl")} == before

    # A worker trains several runs in one process; the last of them equals the run of a separate `train`.
    alone = progrpo.json("train", "method.arm.alpha=1.0", "seed=1", *TINY, "train.steps=2", "--run-dir", "alone")
    last = trials(study)[-1]
    assert (last["method.arm.alpha"], last["seed"], last["config_hash"]) == ("1.0", "1", alone["config_hash"])
    in_worker = read_metrics(study.parents[1] / last["run_dir"])
    assert without_times(in_worker) == without_times(read_metrics(progrpo.directory / "alone"))

    other = progrpo(*SWEEP, "train.learning_rate=1e-3")
    assert other.returncode == 2
    assert "has another plan" in other.stderr
    assert "-base: train.learning_rate=0.0002\n+base: train.learning_rate=0.001\n" in other.stderr  # a diff of the two
    assert load_plan(study).seeds == (0, 1)

    status = progrpo.json("sweep", "--space", "arm_alpha", "--study", "small", "--status")
    assert status["trials"] == result["trials"]
    assert {row["status"] for row in status["runs"]} == {"complete"}
    more = progrpo.json("sweep", "--space", "arm_alpha", *SWEEP[3:-2], "train.steps=20", "--study", "more", "--dry-run")
    assert more["runs_to_do"] == 6
    assert "of finished runs" in more["estimate"]
    assert not (progrpo.directory / "runs" / "more").exists()


def test_after_a_storage_that_cannot_be_reached_another_one_can_be_used(
    progrpo: CommandLine, postgresql: PostgreSQL
) -> None:
    url = postgresql.url("spelled")
    wrong = progrpo(*SWEEP, "--storage", f"{url}x", **postgresql.environment)
    assert wrong.returncode == 1
    assert "does not exist" in wrong.stderr.splitlines()[-1]
    assert not list(progrpo.directory.rglob("study.yaml"))
    right = progrpo(*SWEEP, "--storage", url, "--dry-run", **postgresql.environment)
    assert right.returncode == 0, right.stderr


def test_a_directory_with_other_files_is_refused(progrpo: CommandLine) -> None:
    study = progrpo.directory / "runs" / "small"
    study.mkdir(parents=True)
    (study / "thesis.tex").write_text("x")
    done = progrpo(*SWEEP)
    assert done.returncode == 2
    assert "holds files but no study" in done.stderr
    assert [path.name for path in study.iterdir() if not path.name.startswith(".")] == ["thesis.tex"]
