"""Run the real command line, and helpers for tests that do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TINY = [
    "train.steps=4",
    "train.prompts_per_rollout=4",
    "train.group_size=4",
    "train.save_every=2",
    "task.validation_problems=6",
    "task.test_problems=6",
]

TIMES = {"step_seconds", "train_seconds"}
"""The metrics that differ between equal runs."""


class CommandLine:
    """Runs ``progrpo`` in a directory; ``program`` are Python's arguments to start it."""

    def __init__(self, directory: Path, *program: str) -> None:
        self.directory = directory
        self.program = program or ("-m", "progrpo_cli")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WANDB_")},
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "XDG_STATE_HOME": str(directory / ".state"),
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, *self.program, *arguments],
            cwd=self.directory,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str, **environment: str) -> dict:
        done = self(*arguments, "--json", **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def written(self) -> list[str]:
        """Everything in the directory, except the user's state (the key that signs configurations)."""
        paths = [path.relative_to(self.directory) for path in self.directory.rglob("*")]
        return sorted(str(path) for path in paths if path.parts[0] != ".state")


def read_metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_times(metrics: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key not in TIMES} for line in metrics]


def wait_for(condition, process: subprocess.Popen, seconds: float = 240.0) -> None:
    """Poll until the condition holds; fail if the process ends first or time runs out."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
