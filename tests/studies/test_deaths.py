"""Runs that kill their workers, and workers that are told to stop, under a parent that starts new ones."""

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
    """A launcher whose workers, in this process, are told to stop after one update of the seven that a run has."""

    def __init__(self, study: Study, plan: Plan) -> None:
        self._study, self._plan = study, plan

    def start(self) -> None:
        with suppress(KeyboardInterrupt):
            self._study.work(self._plan, _one_update)

    def alive(self) -> int:
        return 0

    def wait(self, seconds: float) -> None:
        """There is nobody to wait for."""

    def stop(self) -> None:
        """There is nothing left to stop."""


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


def test_a_run_that_kills_its_worker_holds_up_nothing_and_fails_in_the_end(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = study.plan(retries=0, workers=1, seeds=[0])
    deadly = plan.runs_of(plan.grid[0])[0].name
    monkeypatch.setenv("KILLS_ITS_WORKER", deadly)
    store, record = study.open(plan)
    launcher = Processes(study)
    supervise(plan, store, record, launcher)
    assert [known.state.name for known in record.trials()] == ["FAIL", "COMPLETE", "COMPLETE"]
    (failed, *others) = run_rows(plan, store, record)
    assert (failed["status"], failed["attempts"]) == ("failed", 3)
    assert "its worker died 3 times in a row at the same point" in failed["error"]
    assert [row["attempts"] for row in others] == [1, 1]
    assert [worker.returncode for worker in launcher.started] == [-9, -9, -9, 0]
    # The others were not kept waiting by it: they were done by the second worker, before it was tried again.
    ends = [name for name in study.executions() if not name.startswith("end ")]
    assert [name == deadly for name in ends] == [True, False, False, True, True]


def test_workers_that_are_told_to_stop_are_no_deaths_and_not_fruitless(study: Study) -> None:
    """As with jobs whose time is up long before a run is done, however many it takes."""
    plan = study.plan(retries=0, workers=1, seeds=[0], parameters={"method.arm.alpha": [0.5]})
    store, record = study.open(plan)
    supervise(plan, store, record, ShortJobs(study, plan))
    (row,) = run_rows(plan, store, record)
    assert (row["status"], row["attempts"], row["error"]) == ("complete", UPDATES, None)


def test_a_worker_told_to_stop_without_having_got_anywhere_is_no_death(study: Study) -> None:
    plan = study.plan(retries=0, seeds=[0])

    def stop(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            study.work(plan, stop)
    study.work(plan)
    store, record = study.open(plan)
    assert [(row["status"], row["attempts"]) for row in run_rows(plan, store, record)] == [
        ("complete", 6),
        ("complete", 1),
        ("complete", 1),
    ]
