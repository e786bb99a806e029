"""How often ``squeue`` is called, and what happens when the controller does not answer.

There is no cluster: shell scripts named sbatch, squeue and scancel stand in for SLURM's programs.
"""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies.test_launchers import one_run

from progrpo_cli.studies.launchers import slurm

SBATCH = "echo Submitted batch job $(($(grep -c . {here}/submitted.txt) + 100)); echo . >> {here}/submitted.txt"
SQUEUE = 'echo "$@" >> {here}/questions.txt; cat {here}/answer.txt; cat {here}/complaint.txt >&2; exit $(cat {here}/rc)'


class StandInForSlurm:
    """Replaces SLURM's programs by shell scripts, and the clock by one that advances only while the launcher waits."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = directory / "stand-in-for-slurm"
        self.here.mkdir()
        for name in ("submitted.txt", "questions.txt"):
            (self.here / name).touch()
        for name, line in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": "true", "srun": "true"}.items():
            (self.here / name).write_text(f"#!/bin/sh\n{line.format(here=self.here)}\n")
            (self.here / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.here}:/usr/bin:/bin:{Path(sys.executable).parent}")
        self.now = 1000.0
        monkeypatch.setattr(slurm, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))
        self.answers({})

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def answers(self, states: dict[int, str], *, complaint: str = "") -> None:
        (self.here / "answer.txt").write_text("".join(f"{job} {state}\n" for job, state in states.items()))
        (self.here / "complaint.txt").write_text(complaint)
        (self.here / "rc").write_text("1" if complaint else "0")

    @property
    def questions(self) -> list[str]:
        return (self.here / "questions.txt").read_text().splitlines()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInForSlurm:
    return StandInForSlurm(tmp_path, monkeypatch)


@pytest.fixture
def launcher(cluster: StandInForSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> slurm.SlurmLauncher:
    """A launcher with three jobs: 100 is running, 101 and 102 are pending."""
    launcher = slurm.SlurmLauncher(one_run(tmp_path, monkeypatch))
    for _ in range(3):
        launcher.start()
    cluster.answers({100: "RUNNING", 101: "PENDING", 102: "PENDING"})
    return launcher


def test_one_call_covers_all_jobs_and_is_not_repeated_at_once(
    cluster: StandInForSlurm, launcher: slurm.SlurmLauncher
) -> None:
    assert launcher.alive() == launcher.alive() == 3
    (question,) = cluster.questions
    assert question.endswith("-j 100,101,102")


def test_calls_become_rare_while_nothing_changes(cluster: StandInForSlurm, launcher: slurm.SlurmLauncher) -> None:
    for _ in range(120):  # seconds
        assert launcher.alive() == 3
        launcher.wait(1.0)
    assert 8 <= len(cluster.questions) <= 14  # after 1, 2, 4, 8 s and then every 15 s
    cluster.answers({100: "RUNNING", 101: "RUNNING", 102: "FAILED"})
    for _ in range(15):
        launcher.alive()
        launcher.wait(1.0)
    assert launcher.alive() == 2
    asked = len(cluster.questions)
    launcher.start()  # after this the launcher asks at once
    assert launcher.alive() == 2  # job 103 is not in the answer
    assert len(cluster.questions) == asked + 1


def test_jobs_count_as_alive_while_the_controller_does_not_answer(
    cluster: StandInForSlurm,
    launcher: slurm.SlurmLauncher,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slurm.log, "propagate", True)
    with caplog.at_level(logging.WARNING, logger="progrpo"):
        cluster.answers({}, complaint="slurm_load_jobs error: Unable to contact slurm controller")
        for _ in range(300):
            assert launcher.alive() == 3
            launcher.wait(1.0)
        assert 8 <= len(cluster.questions) <= 12  # after 1, 2, 4, ... s and then every minute
        (cluster.here / "squeue").unlink()  # the same if the program cannot be started
        monkeypatch.setenv("PATH", str(cluster.here))
        for _ in range(60):
            assert launcher.alive() == 3
            launcher.wait(1.0)
    (warning,) = caplog.messages
    assert warning == (
        "squeue does not answer, the workers count as alive: slurm_load_jobs error: Unable to contact slurm controller"
    )


def test_jobs_that_the_controller_has_forgotten_have_ended(
    cluster: StandInForSlurm, launcher: slurm.SlurmLauncher
) -> None:
    cluster.answers({101: "PENDING"})
    assert launcher.alive() == 1
    cluster.answers({}, complaint="slurm_load_jobs error: Invalid job id specified")
    launcher.wait(2.0)
    assert launcher.alive() == 0
    launcher.wait(60.0)
    asked = len(cluster.questions)
    assert launcher.alive() == 0
    assert len(cluster.questions) == asked  # squeue is not called without jobs


def test_stopping_waits_for_all_jobs_together(cluster: StandInForSlurm, launcher: slurm.SlurmLauncher) -> None:
    start = cluster.now
    launcher.stop()  # the jobs do not end
    assert 120 <= cluster.now - start <= 150
    assert len(cluster.questions) <= 25
    cluster.answers({100: "CANCELLED", 101: "CANCELLED", 102: "CANCELLED"})
    launcher.stop()
    assert launcher.alive() == 0
