"""The progress display of a study, time estimates and the remaining time."""

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies import live_display as views
from progrpo_cli.studies import pace
from progrpo_cli.studies.estimate import estimate
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import load_space, parse_space
from progrpo_cli.studies.trial_tables import run_rows as planned


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load_space("arm_alpha"), ["train.steps=10"], Path("runs/arm_alpha"))


def rows(plan: Plan, updates: int) -> list[dict[str, Any]]:
    """Return rows in which alpha 0 and 0.3 are complete, one seed of alpha 1 is running, and the others are planned."""
    result = []
    for index, trial in enumerate(plan.grid):
        for run in plan.runs_of(trial):
            running = index == 2 and run.seed == 0
            result.append(
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
    return result


def test_the_live_table(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
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
    with caplog.at_level(logging.INFO, logger="progrpo"), views.study_display(plan) as display:
        for updates in (1, 2, 6):
            display.update(rows(plan, updates), 2)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("study arm_alpha: 6 complete, 1 running, 8 planned; 66 updates, 2 workers; about ")
    assert line.endswith("best pass@32 0.750 with method.arm.alpha=0.3")


def test_durations() -> None:
    assert [views.format_duration(s) for s in (None, 40, 600, 7500)] == ["?", "40 s", "10 min", "2 h 5 min"]


def test_no_estimate_without_a_finished_run(plan: Plan, tmp_path: Path) -> None:
    assert "time unknown" in estimate(plan, planned(plan, None, None), tmp_path / "runs")


def test_a_damaged_run_is_not_part_of_the_estimate(
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
    assert "median 2.50 s in 1 updates of finished runs" in estimate(plan, planned(plan, None, None), tmp_path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("not counted in the estimate")
    assert str(run.config_path) in line


@pytest.fixture(scope="module")
def unequal() -> Plan:
    """Trials of 10 updates on 4 x 4 completions, and of 100 updates on 4 x 4 and on 16 x 4."""
    settings = ["train.steps", "train.prompts_per_rollout"]
    space = {
        "overrides": ["train.group_size=4", "train.updates_per_rollout=1", "train.micro_batch_size=16"],
        "parameters": {settings[0]: [10, 100], settings[1]: [4, 16]},
        "seeds": [0],
        "objectives": [{"metric": "pass@32"}],
        "workers": 2,
    }
    return make_plan(parse_space(space, "unequal"), [], Path("runs/unequal"))


def write_finished_run(root: Path, plan: Plan, name: str, seconds: float, **train: Any) -> None:
    config = plan.grid[0].config
    config = config.model_copy(update={"train": config.train.model_copy(update=train)})
    run = RunDirectory(root / name)
    with run.lock():
        run.start(config, model="progrpo/lab-base", study=None)
    run.update(status="finished")
    run.metrics_path.write_text(f'{{"step": 1, "step_seconds": {seconds}}}\n' * 3)


def test_the_estimate_sums_over_trials_with_their_own_updates_and_rollouts(unequal: Plan, tmp_path: Path) -> None:
    rows = planned(unequal, None, None)
    assert [(row["train.steps"], row["train.prompts_per_rollout"]) for row in rows] == [
        *((10, 4), (10, 16)),
        *((100, 4), (100, 16)),
    ]
    write_finished_run(tmp_path, unequal, "small", 3.0)
    text = estimate(unequal, rows, tmp_path)
    # (10 + 100) updates of 3 s by two workers: 165 s. There is no finished run with rollouts of 16 prompts.
    assert text.startswith("about 3 min of training with 2 workers")
    assert "110 updates, median 3.00 s in 3 updates of finished runs; 2 runs are not included" in text
    write_finished_run(tmp_path, unequal, "large", 12.0, prompts_per_rollout=16)
    text = estimate(unequal, rows, tmp_path)
    assert text.startswith("about 14 min of training")  # with another 110 updates of 12 s: 1650 s by two workers
    assert text.endswith("220 updates, median 3.00 to 12.00 s in 6 updates of finished runs")
    rows[3].update(status="interrupted", updates=55)
    rows[0].update(status="complete", updates=10)
    assert estimate(unequal, rows, tmp_path).startswith("about 8 min")  # (100 x 3 + 55 x 12) / 2 = 480 s
    for row in rows:
        row["status"] = "complete"
    assert estimate(unequal, rows, tmp_path) == "nothing is left to do"


def test_the_remaining_time_sums_over_trials_with_their_own_updates_and_rollouts(
    unequal: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
    rows = planned(unequal, None, None)
    study_pace = pace.Pace(unequal)
    assert study_pace.remaining_seconds(rows) is None
    rows[0].update(status="complete", updates=10, seconds=20.0)  # two workers: 20 s of updates in 10 s
    # An update on four times as many completions takes four times as long: 2 x 100 + 8 x (10 + 100) = 1080 s.
    assert study_pace.remaining_seconds(rows) == pytest.approx(540.0)
    rows[1].update(status="running", updates=5, seconds=20.0)  # now it is measured: 4 s per update
    assert study_pace.remaining_seconds(rows) == pytest.approx((2 * 100 + 4 * (5 + 100)) / 2)


def test_trials_that_are_not_drawn_yet_count_as_the_mean_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
    space = {
        "parameters": {"train.steps": {"type": "int", "low": 10, "high": 30, "step": 10}},
        "seeds": [0],
        "objectives": [{"metric": "pass@32"}],
        "sampler": {"name": "random"},
        "budget": {"trials": 5},
    }
    plan = make_plan(parse_space(space, "drawn"), [], Path("runs/drawn"))
    trials = [plan.trial({"train.steps": steps}) for steps in (10, 30)]
    rows = [
        {"config_hash": t.config_hash, **t.parameters, "status": "running", "updates": 0, "seconds": 0.0}
        for t in trials
    ]
    study_pace = pace.Pace(plan)
    assert study_pace.remaining_seconds(rows) is None
    rows[0].update(status="complete", updates=10, seconds=10.0)
    # 30 updates of the second trial, and three trials of 20 on average, at one update per second
    assert study_pace.remaining_seconds(rows) == pytest.approx(30 + 3 * 20)
