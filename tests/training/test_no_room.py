"""A full disk, a limit on the size of files, a W&B that does not answer: nothing logged is lost, one line says why."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import TINY, CommandLine, read_metrics, wait_for, without_times

from progrpo_cli.tracking.wandb_offline import read_wandb_dir

RUN = ["train", *TINY, "train.steps=12", "train.save_every=2", "--run-dir"]


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for two checkpoints (9.8 MB each) and not for three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=26m", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass


def same(one: list[dict], other: list[dict]) -> bool:
    return without_times(one) == without_times(other)


@pytest.mark.long
def test_a_disk_that_is_full_at_a_checkpoint(progrpo: CommandLine, small_disk: Path) -> None:
    straight = progrpo(*RUN, "straight")
    assert straight.returncode == 0, straight.stderr
    ours = read_metrics(progrpo.directory / "straight")
    full = progrpo(*RUN, "disk/run")
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("progrpo: disk/run/checkpoints/checkpoint-")
    assert "no space left on device" in last.lower()
    run = small_disk / "run"
    logged = read_metrics(run)
    assert len(logged) >= 4
    assert same(logged, ours[: len(logged)])
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["status"], "no space left" in manifest["error"].lower()) == ("failed", True)
    assert not list(run.rglob("*partial*/*"))
    (tracked,) = read_wandb_dir(run / "wandb")
    assert [row["step"] for row in tracked.history] == [record["step"] for record in logged]
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    done = progrpo(*RUN, "disk/run")
    assert done.returncode == 0, done.stderr
    assert "continuing" in done.stderr
    assert same(read_metrics(run), ours)


def test_a_disk_without_room_for_one_more_line(progrpo: CommandLine, small_disk: Path) -> None:
    """Filled by somebody else while the run goes on: the step that finds no room ends it, the earlier ones stay."""
    process = progrpo.start(
        "train", *TINY, "train.steps=4000", "train.save_every=4000", "--run-dir", "disk/run", WANDB_MODE="offline"
    )
    lines = small_disk / "run" / "metrics.jsonl"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) >= 5, process)
    seen = lines.read_text().splitlines()[:5]
    fill(small_disk / "somebody-elses")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "Traceback" not in err, err
    last = err.strip().splitlines()[-1]
    assert last.startswith("progrpo: ")
    assert "No space left on device" in last
    assert "every step logged so far is kept" in last
    assert lines.read_text().splitlines()[:5] == seen
    (small_disk / "somebody-elses").unlink()
    listed = progrpo.json("list", "runs")  # whatever the manifest could still say, it can be read
    assert listed is not None


def test_a_limit_on_the_size_of_files(progrpo: CommandLine) -> None:
    """No file above 2 MB: the first checkpoint's weights (3.2 MB) do not fit."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))\n"
        "from progrpo_cli.main import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *RUN, "run"],
        cwd=progrpo.directory,
        env={**progrpo.environment, "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "checkpoint-2 could not be written" in last
    assert [record["step"] for record in read_metrics(progrpo.directory / "run")] == [1, 2]
    assert not list((progrpo.directory / "run" / "checkpoints").glob("checkpoint-*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_an_unreachable_wandb_is_one_warning_and_the_run_goes_on_offline(progrpo: CommandLine) -> None:
    done = progrpo(
        "train",
        *TINY,
        "train.steps=2",
        "tracking.wandb.mode=online",
        "--run-dir",
        "run",
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_API_KEY="0" * 40,
        WANDB_INIT_TIMEOUT="3",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B") == 1, done.stderr
    assert "W&B cannot be reached" in done.stderr
    run = progrpo.directory / "run"
    assert [record["step"] for record in read_metrics(run)] == [1, 2]
    (tracked,) = read_wandb_dir(run / "wandb")
    assert [row["step"] for row in tracked.history] == [1, 2]
    assert list((run / "wandb").glob("offline-run-*/run-*.wandb"))
