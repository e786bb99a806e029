"""Logging to the real wandb, offline, also when its service dies."""

import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from wandb_log import finished_run

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tracking.wandb_offline import merge, read_wandb_dir
from progrpo_cli.tracking.wandb_run import tracker, wandb_mode


def start_run(path: Path) -> RunDirectory:
    run = RunDirectory(path)
    with run.lock():
        run.start(compose(), model="progrpo/lab-base", study="s")
    return run


def test_the_mode_comes_from_the_configuration_or_the_environment_or_is_offline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert wandb_mode(None) == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(None) == "disabled"
    assert wandb_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(RequestError, match="offline"):
        wandb_mode(None)


def test_after_the_service_dies_the_run_continues_and_the_next_one_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(logging.getLogger("progrpo"), "propagate", True)
    first, second = start_run(tmp_path / "first"), start_run(tmp_path / "second")
    with tracker(first, compose(), study="s") as wandb_tracker:
        wandb_tracker.log({"step": 1, "reward": 0.5})
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # a process may end together with another one
                if "wandb" in " ".join(child.cmdline()):
                    child.kill()
                    child.wait(10)
        for step in range(2, 40):
            wandb_tracker.log({"step": step, "reward": 0.5})
    assert sum("W&B has failed" in record.message for record in caplog.records) == 1
    with tracker(second, compose(), study="s") as wandb_tracker:
        wandb_tracker.log({"step": 1, "reward": 0.25})
    tracked_run = finished_run(second.path / "wandb")
    assert [(row["step"], row["reward"]) for row in tracked_run.history] == [(1, 0.25)]
    assert tracked_run.group == "s"


ADVICE = """
import sys, types
from pathlib import Path
from progrpo_cli.config.compose import compose
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tracking.wandb_run import tracker

sys.modules["openai"] = types.ModuleType("openai")
run, config = RunDirectory(Path(sys.argv[1])), compose()
run.start(config, model="progrpo/lab-base", study=None)
with tracker(run, config):
    pass
"""


def test_wandb_does_not_advertise_weave(tmp_path: Path) -> None:
    """Without our setting, W&B prints three lines on stderr about Weave if openai has been imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "-c", ADVICE, tmp_path / "run"],
        env=environment | {"WANDB_MODE": "offline"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert list(tmp_path.glob("run/wandb/*/*.wandb"))


def test_samples_are_logged_only_if_they_are_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = start_run(tmp_path / "run")
    samples = tmp_path / "samples.jsonl"
    samples.write_text('{"problem_id": "a", "text": "1+2"}\n{"problem_id": "b", "text": "3"}\n')
    scores = {"pass@1": {"value": 0.5, "low": 0.25, "high": 0.75}, "counts": [["a", 2, 1]]}
    with tracker(run, compose(), study=None) as wandb_tracker:
        wandb_tracker.log_scores("countdown-0", scores, None)
        wandb_tracker.log_scores("countdown-1", scores, samples)
    tracked_run = finished_run(run.path / "wandb")
    tables = list(run.path.glob("wandb/*/files/media/table/samples/*.json"))
    assert {table.name.split("_")[0] for table in tables} == {"countdown-1"}
    assert json.loads(tables[0].read_text())["data"] == [["a", "1+2"], ["b", "3"]]
    assert json.loads(tracked_run.summary["scores/countdown-0"]) == scores
    assert tracked_run.history == []


def test_a_resumed_run_logs_the_steps_that_were_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = start_run(tmp_path / "run")
    with tracker(run, compose(), study=None) as wandb_tracker:
        for step in (1, 2, 4):
            wandb_tracker.log({"step": step, "reward": step / 10})
    with tracker(run, compose(), study=None) as wandb_tracker:
        wandb_tracker.catch_up([{"step": step, "reward": step / 10} for step in (1, 2, 3, 4, 5)])
        wandb_tracker.log({"step": 6, "reward": 0.6})
    tracked_run = finished_run(run.path / "wandb")
    assert [(row["step"], row["reward"]) for row in tracked_run.history] == [(step, step / 10) for step in range(1, 7)]
    logs = sorted((run.path / "wandb").glob("*run-*/run-*.wandb"))
    logged = [[row["step"] for row in merge([log])[0].history] for log in logs]
    assert logged == [[1, 2, 4], [3, 5, 6]]  # only the missing steps are logged again


STEPS_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from progrpo_cli.config.compose import compose
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tracking.wandb_run import tracker

run, config = RunDirectory(Path(sys.argv[1])), compose()
run.start(config, model="progrpo/lab-base", study="s")
with tracker(run, config, study="s") as wandb_tracker:
    for step in range(1, 1000):
        wandb_tracker.log({"step": step, "reward": step / 10})
        print(step, flush=True)
        time.sleep(0.1)
"""


def test_a_killed_run_loses_at_most_its_last_second(tmp_path: Path) -> None:
    environment = {**os.environ, "WANDB_MODE": "offline"}
    command = [sys.executable, "-c", STEPS_UNTIL_KILLED, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert process.stdout is not None
    while int(process.stdout.readline()) < 40:  # four seconds
        pass
    os.killpg(process.pid, signal.SIGKILL)  # this kills W&B's service process too
    process.wait()
    (tracked_run,) = read_wandb_dir(tmp_path / "run" / "wandb")
    assert (tracked_run.group, tracked_run.tags, tracked_run.config["progrpo"]["kind"]) == ("s", ("progrpo",), "run")
    steps = [row["step"] for row in tracked_run.history]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 40 - 15  # ten steps per second, and half a second for buffered steps


def test_runs_are_tagged_by_method_and_the_log_explains_how_to_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(logging.getLogger("progrpo"), "propagate", True)
    config = compose(["method=dr_grpo", "method.arm.alpha=0.3", "tracking.wandb.tags=[mine]"])
    run = RunDirectory(tmp_path / "run")
    with caplog.at_level(logging.INFO, logger="progrpo"):
        run.start(config, model="progrpo/lab-base", study=None)
        with tracker(run, config, study=None) as wandb_tracker:
            wandb_tracker.log({"step": 1, "reward": 0.5})
    assert f"wandb sync {run.path}/wandb/offline-run-*" in caplog.text
    tracked_run = finished_run(run.path / "wandb")
    assert tracked_run.tags == ("dr_grpo", "dr_grpo+arm", "mine")
