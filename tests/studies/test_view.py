"""What people see while a study runs."""

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies import view as views
from progrpo_cli.studies.estimate import estimate
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import load_space


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load_space("arm_alpha"), ["train.steps=10"], Path("runs/arm_alpha"))


def rows(plan: Plan, updates: int) -> list[dict[str, Any]]:
    """Alpha 0 and 0.3 are complete, one seed of alpha 1 is running, the others wait."""
    found = []
    for index, trial in enumerate(plan.grid):
        for run in plan.runs_of(trial):
            running = index == 2 and run.seed == 0
            found.append(
                {
                    "config_hash": trial.config_hash,
                    "seed": run.seed,
                    **trial.parameters,
                    "validation/pass@32": [0.5, 0.75][index] if index < 2 else None,
                    "status": "complete" if index < 2 else "running" if running else "planned",
                    "updates": 10 if index < 2 else updates if running else 0,
                    "seconds": 20.0 if index < 2 else 2.0 * updates if running else 0.0,
                    "worker": "host:4711:abc" if running else None,
                }
            )
    return found


def test_the_live_view(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(views.time, "monotonic", lambda: next(clock))
    live = views._Live(plan)
    live.render(rows(plan, 1), 2)
    page = io.StringIO()
    Console(file=page, width=120).print(live.render(rows(plan, 6), 2))
    text = page.getvalue()
    assert "6 complete, 1 running, 8 planned; 2 workers" in text
    assert "best so far: pass@32 0.750 with method.arm.alpha=0.3" in text
    (row,) = [line for line in text.splitlines() if "host:4711" in line]
    assert row.split() == ["host:4711:abc", "alpha=1.0", "0", "6", "2.00"]
    assert "about 3 min left" in text  # 84 updates at 5 in 10 s: 168 s


def test_plain_lines(plan: Plan, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views.log, "propagate", True)
    clock = iter([0.0, 0.0, 0.0, 1.0, 1.0, 20.0, 20.0])
    monkeypatch.setattr(views.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, logger="progrpo"), views.view(plan) as shown:
        for updates in (1, 2, 6):
            shown.update(rows(plan, updates), 2)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("study arm_alpha: 6 complete, 1 running, 8 planned; 66 updates, 2 workers; about ")
    assert line.endswith("best pass@32 0.750 with method.arm.alpha=0.3")


def test_durations() -> None:
    assert [views.duration(s) for s in (None, 40, 600, 7500)] == ["?", "40 s", "10 min", "2 h 5 min"]


def test_no_estimate_without_a_finished_run(plan: Plan, tmp_path: Path) -> None:
    assert "time unknown" in estimate(plan, 15, tmp_path / "runs")


def test_a_finished_run_that_cannot_be_read_is_not_counted(
    plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views.log, "propagate", True)
    for name in ("as-it-is", "of-another-version"):
        run = RunDirectory(tmp_path / name)
        with run.lock():
            run.start(plan.grid[0].config, model="progrpo/lab-base", study=None)
        run.update(status="finished")
        run.metrics_path.write_text('{"step": 1, "step_seconds": 2.5}\n')
    run.config_path.write_text("train: {steps: many}\n")
    assert "median 2.50 s in 1 updates of finished runs" in estimate(plan, 15, tmp_path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("not counted in the estimate")
    assert str(run.config_path) in line
