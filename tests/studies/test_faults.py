"""Faults during a sweep of short lab runs through the real command line, and the same command afterwards."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine, kill
from studies.invariants import Finished, check_study, csv_rows, finished_runs, kill_nine, workers_of
from studies.postgresql import PASSWORD, PostgreSQL

SPACE = """
overrides:
  - train.steps=4
  - train.prompts_per_rollout=2
  - train.group_size=4
  - train.save_every=2
  - task.validation_problems=4
  - tracking.wandb.mode=disabled
parameters: {method.arm.alpha: [0.5, 1.0]}
seeds: [0, 1]
objectives: [{metric: pass@32}]
"""
SWEEP = ["sweep", "--space", "small.yaml"]


@pytest.fixture
def sweep(progrpo: CommandLine) -> tuple[CommandLine, Path]:
    (progrpo.directory / "small.yaml").write_text(SPACE)
    return progrpo, progrpo.directory / "runs" / "small"


def wait(condition: Callable[[], object], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def metrics(study: Path) -> int:
    return len(list(study.glob("trials/*/metrics.jsonl")))


def samples(study: Path) -> int:
    return len(list(study.glob("trials/*/eval/*/samples.jsonl")))


def wait_for_exit(process: subprocess.Popen) -> tuple[int, str]:
    _, err = process.communicate(timeout=600)
    return process.returncode, err


def test_kill_nine_of_a_worker_in_training_and_of_one_in_evaluation(sweep: tuple[CommandLine, Path]) -> None:
    progrpo, study = sweep
    process = progrpo.start(*SWEEP, "--workers", "1")
    wait(lambda: metrics(study) == 1)
    kill_nine(workers_of(study))  # in training
    wait(lambda: samples(study) == 2)
    kill_nine(workers_of(study))  # during the second run's evaluation, or just after it
    code, err = wait_for_exit(process)  # the parent replaced both
    assert code == 0, err
    check_study(study)
    attempts = [int(row["attempts"]) for row in csv_rows(study)]
    assert attempts[0] == 2
    assert sum(attempts) in (5, 6)


def test_interrupt_then_the_parent_then_everything_killed(sweep: tuple[CommandLine, Path]) -> None:
    progrpo, study = sweep
    longer = SPACE.replace("steps=4", "steps=12").replace("[0, 1]", "[0, 1, 2]")  # so that it is not over too early
    (progrpo.directory / "small.yaml").write_text(longer)
    before: list[Finished] = []
    process = progrpo.start(*SWEEP)
    wait(lambda: metrics(study) >= 2)
    process.send_signal(signal.SIGINT)
    code, err = wait_for_exit(process)
    assert code == 130, err
    assert not workers_of(study)
    assert "running" not in {row["status"] for row in csv_rows(study)}
    before.append(finished_runs(study))

    done = len(before[-1])
    process = progrpo.start(*SWEEP)
    wait(lambda: len(workers_of(study)) == 2)
    kill(process)  # SIGKILL only for the parent: its workers save and end
    wait(lambda: not workers_of(study))
    before.append(finished_runs(study))

    process = progrpo.start(*SWEEP, "--workers", "1")
    wait(lambda: len(finished_runs(study)) > done)
    kill_nine([*workers_of(study), process.pid])
    process.communicate()
    (study / ".journal.lock").touch()  # lock files that dead processes left behind do not block the next start
    (study / "optuna.journal.lock").symlink_to("optuna.journal")
    before.append(finished_runs(study))

    again = progrpo(*SWEEP)
    assert again.returncode == 0, again.stderr
    check_study(study, earlier=before)
    assert "within noise" in again.stdout or "ahead of the next" in again.stdout
    assert f"next: progrpo report {study.relative_to(progrpo.directory)}" in again.stdout


def test_two_commands_start_the_same_study_at_once(sweep: tuple[CommandLine, Path]) -> None:
    progrpo, study = sweep
    both = [progrpo.start(*SWEEP, "--workers", "1") for _ in range(2)]
    for process in both:
        code, err = wait_for_exit(process)
        assert code == 0, err
    check_study(study)
    assert {row["attempts"] for row in csv_rows(study)} == {"1"}


def test_failed_runs_have_their_reasons_and_the_others_are_complete(progrpo: CommandLine) -> None:
    """The runs of one trial get NaN, and one run of the other raises an error."""
    space = SPACE.replace("{method.arm.alpha: [0.5, 1.0]}", "{train.learning_rate: [1.0e-3, 1.0e+30]}")
    larger = space.replace("rollout=2", "rollout=8").replace("group_size=4", "group_size=8")  # some group will be mixed
    (progrpo.directory / "small.yaml").write_text(f"{larger}retries: 1\n")
    study = progrpo.directory / "runs" / "small"
    planned = progrpo.json(*SWEEP, "--dry-run")["runs"]
    blocked = progrpo.directory / planned[1]["run_dir"] / "checkpoints"
    process = progrpo.start(*SWEEP)
    wait(lambda: blocked.parent.is_dir())
    blocked.write_text("in the way")  # training raises an error, since this is the directory for checkpoints
    code, err = wait_for_exit(process)
    assert code == 1, err
    rows = csv_rows(study)
    assert [row["status"] for row in rows] == ["complete", "failed", "failed", "failed"]
    assert [row["attempts"] for row in rows] == ["1", "2", "2", "2"]
    assert "checkpoints" in rows[1]["error"]
    assert "nan" in rows[2]["error"].lower()
    assert planned[1]["run_dir"] in err.splitlines()[-1]
    start = time.monotonic()
    again = progrpo(*SWEEP)  # the failed runs have used up their tries
    assert again.returncode == 1
    assert time.monotonic() - start < 20
    assert csv_rows(study) == rows


def test_a_run_that_takes_too_long_fails(progrpo: CommandLine) -> None:
    slow = SPACE.replace("[0.5, 1.0]", "[0.5]").replace("[0, 1]", "[0]").replace("steps=4", "steps=4000")
    (progrpo.directory / "small.yaml").write_text(f"{slow}retries: 0\nminutes_per_run: 0.25\n")
    done = progrpo(*SWEEP, "--workers", "1")
    assert done.returncode == 1
    (row,) = csv_rows(progrpo.directory / "runs" / "small")
    assert row["status"] == "failed"
    assert "time limit of 0.25 minutes" in row["error"]
    assert 0 < int(row["updates"]) < 4000


def test_postgresql_is_restarted_during_a_sweep_and_no_secret_is_written(
    sweep: tuple[CommandLine, Path], postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    progrpo, study = sweep
    key = "0123456789abcdef" * 2 + "feedbeef"
    secrets = {**postgresql.environment, "WANDB_API_KEY": key}
    url = postgresql.url("restarted")
    command = [*SWEEP, "--workers", "1", "--storage", url, "tracking.wandb.mode=offline"]
    process = progrpo.start(*command, **secrets)
    wait(lambda: metrics(study) >= 1)
    command_lines = [(entry / "cmdline").read_bytes() for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    postgresql.stop()
    time.sleep(2)
    postgresql.start()
    code, err = wait_for_exit(process)
    assert code == 0, err
    for name, value in postgresql.environment.items():
        monkeypatch.setenv(name, value)
    check_study(study)
    assert {row["attempts"] for row in csv_rows(study)} == {"1"}
    assert progrpo(*command, **secrets).returncode == 0

    written = b"".join(path.read_bytes() for path in progrpo.directory.rglob("*") if path.is_file())
    everything = written + postgresql.dump().encode() + b"".join(command_lines) + err.encode()
    assert b"progrpo_runs" in everything  # the dump is not empty
    assert any(url.encode() in line for line in command_lines)
    for secret in (PASSWORD, key):
        assert secret.encode() not in everything
