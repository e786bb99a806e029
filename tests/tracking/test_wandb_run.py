"""Sending to the real wandb, offline, also when its service dies in the middle."""

import logging
import os
import signal
from pathlib import Path

import psutil
import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tracking.wandb_offline import read_wandb_dir
from progrpo_cli.tracking.wandb_run import tracker, wandb_mode


def started(path: Path) -> RunDirectory:
    run = RunDirectory(path)
    with run.lock():
        run.start(compose(), model="progrpo/lab-base", study="s")
    return run


def test_the_mode_is_the_configurations_then_the_environments_then_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert wandb_mode(None) == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(None) == "disabled"
    assert wandb_mode("online") == "online"
    monkeypatch.setenv("WANDB_MODE", "offlin")
    with pytest.raises(RequestError, match="offline"):
        wandb_mode(None)


def test_a_service_that_dies_costs_neither_the_run_nor_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(logging.getLogger("progrpo"), "propagate", True)
    first, second = started(tmp_path / "first"), started(tmp_path / "second")
    with tracker(first, compose(), study="s") as tracked:
        tracked.log({"step": 1, "reward": 0.5})
        for child in psutil.Process().children(recursive=True):
            if "wandb" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
                child.wait(10)
        for step in range(2, 40):
            tracked.log({"step": step, "reward": 0.5})
    assert sum("W&B has failed" in record.message for record in caplog.records) == 1
    with tracker(second, compose(), study="s") as tracked:
        tracked.log({"step": 1, "reward": 0.25})
    (found,) = read_wandb_dir(second.path / "wandb")
    assert [(row["step"], row["reward"]) for row in found.history] == [(1, 0.25)]
    assert found.group == "s"
