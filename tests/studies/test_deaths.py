"""Runs that kill their workers, and workers that are told to stop, with a parent that starts new workers."""

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from studies.simulated import Study, simulate

from progrpo_cli.studies.plan import Plan, Run
from progrpo_cli.studies.supervise import supervise
from progrpo_cli.studies.trial_tables import run_rows
from progrpo_cli.studies.worker import Watch

UPDATES = 7


class Processes:
    """A launcher of simulated workers."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self.started: list[subprocess.Popen] = []

    def start(self) -> None:
        self.started.append(self._study.start())

    def alive(self) -> int:
        return sum(worker.poll() is None for worker in self.started)

    def wait(self, seconds: float) -> None:
        time.sleep(0.1)

    def stop(self) -> None:
        for worker in self.started:
            worker.wait(timeout=60)


class ShortJobs:
    """A launcher whose workers run in this process and are told to stop after each of a run's seven updates."""

    def __init__(self, study: Study, plan: Plan) -> None:
        self._study, self._plan = study, plan

    def start(self) -> None:
        with suppress(KeyboardInterrupt):
            self._study.work(self._plan, _one_update)

    def alive(self) -> int:
        return 0

    def wait(self, seconds: float) -> None:
        """Return at once, since no worker is running."""

    def stop(self) -> None:
        """Do nothing, since no worker is running."""


def _one_update(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
    metrics = run.directory.metrics_path
    step = len(metrics.read_text().splitlines()) + 1 if metrics.exists() else 1
    with metrics.open("a") as file:
        file.write(json.dumps({"step": step, "step_seconds": 1.0}) + "\n")
    if step < UPDATES:
        raise KeyboardInterrupt
    return simulate(plan, run, watch)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "runs" / "simulated", None, 1)


def test_a_run_that_kills_its_workers_fails_and_does_not_delay_other_runs(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = study.plan(retries=0, workers=1, seeds=[0])
    deadly = plan.runs_of(plan.grid[0])[0].name
    monkeypatch.setenv("KILLS_ITS_WORKER", deadly)
    store, optuna_study = study.open(plan)
    launcher = Processes(study)
    supervise(plan, store, optuna_study, launcher)
    assert [known.state.name for known in optuna_study.trials()] == ["FAIL", "COMPLETE", "COMPLETE"]
    (failed, *others) = run_rows(plan, store, optuna_study)
    assert (failed["status"], failed["attempts"]) == ("failed", 3)
    assert "its worker died 3 times in a row at the same point" in failed["error"]
    assert [row["attempts"] for row in others] == [1, 1]
    assert [worker.returncode for worker in launcher.started] == [-9, -9, -9, 0]
    # The second worker completed the other runs before it tried this one again.
    starts = [name for name in study.executions() if not name.startswith("end ")]
    assert [name == deadly for name in starts] == [True, False, False, True, True]


def test_workers_that_are_told_to_stop_do_not_count_as_deaths_or_fruitless_starts(study: Study) -> None:
    """As with jobs whose time limit is much shorter than a run."""
    plan = study.plan(retries=0, workers=1, seeds=[0], parameters={"method.arm.alpha": [0.5]})
    store, optuna_study = study.open(plan)
    supervise(plan, store, optuna_study, ShortJobs(study, plan))
    (row,) = run_rows(plan, store, optuna_study)
    assert (row["status"], row["attempts"], row["error"]) == ("complete", UPDATES, None)


def test_a_worker_that_is_told_to_stop_before_any_progress_is_not_a_death(study: Study) -> None:
    plan = study.plan(retries=0, seeds=[0])

    def stop(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            study.work(plan, stop)
    study.work(plan)
    store, optuna_study = study.open(plan)
    assert [(row["status"], row["attempts"]) for row in run_rows(plan, store, optuna_study)] == [
        ("complete", 6),
        ("complete", 1),
        ("complete", 1),
    ]
