"""SIGTERM ends the reading of a large file soon: the process does not finish the file first."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine, wait_for

from progrpo_cli.config.compose import compose
from progrpo_cli.records.rundir import RunDirectory

SECONDS = 10
"""Generous for a busy machine; an idle one needs 0.2 s. Reading any of these files to its end takes longer."""


def make_space(directory: Path) -> Path:
    path = directory / "space.yaml"
    with path.open("w") as file:
        file.write("parameters:\n")
        file.writelines(f"  key{number}: [1, 2, {{a: b}}]\n" for number in range(900_000))
    return path


def make_metrics(directory: Path) -> Path:
    path = directory / "runs" / "a" / "metrics.jsonl"
    line = b'{"step": 1, "reward": 0.25, "entropy": 0.5, "completion_length": 10.5, "grad_norm": 0.125}\n'
    with path.open("wb") as file:
        for _ in range(300):
            file.write(line * (1_000_000 // len(line)))
    return path


def make_wandb_file(directory: Path) -> Path:
    path = directory / "offline" / "run-x.wandb"
    path.parent.mkdir()
    path.write_bytes(b":W&B" + bytes(3) + bytes(300_000_000))
    return path


CASES: list[tuple[Callable[[Path], Path], list[str]]] = [
    (make_space, ["sweep", "--space", "space.yaml", "--dry-run"]),
    (make_metrics, ["report", "runs"]),
    (make_wandb_file, ["report", "wandb-offline:offline"]),
]


@pytest.mark.parametrize(("make", "command"), CASES)
def test_sigterm_ends_reading(tmp_path: Path, make: Callable[[Path], Path], command: list[str]) -> None:
    RunDirectory(tmp_path / "runs" / "a").start(compose(), model="progrpo/lab-base", study=None)
    path = make(tmp_path).resolve()
    process = CommandLine(tmp_path).start(*command)
    directory = Path(f"/proc/{process.pid}")

    def is_reading() -> bool:
        """Whether the file is open, or has been read into memory (it is open only for an instant then)."""
        try:
            read = int((directory / "io").read_text().split()[1])
            return read >= path.stat().st_size or any(
                os.path.realpath(entry) == str(path) for entry in (directory / "fd").iterdir()
            )
        except FileNotFoundError:
            return False

    wait_for(is_reading, process)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, err = process.communicate(timeout=300)
    assert time.monotonic() - began < SECONDS
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1].startswith("progrpo: interrupted")
