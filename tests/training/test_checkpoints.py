"""A checkpoint is complete or absent, and the configured number of checkpoints is kept."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import TINY, read_metrics, without_times

from progrpo_cli.config.compose import compose
from progrpo_cli.config.schema import Config
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.training.checkpoints import FILES, last_checkpoint
from progrpo_cli.training.launch import train_in


def config(*overrides: str) -> Config:
    settings = [*TINY, "train.steps=8", "train.save_every=2", "tracking.wandb.mode=disabled", "device=cpu"]
    return compose([*settings, *overrides])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("straight") / "run")
    train_in(run, config())
    return run


def test_the_newest_checkpoints_are_kept_and_no_partial_one_is_left(straight: RunDirectory, tmp_path: Path) -> None:
    assert sorted(path.name for path in straight.checkpoints.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    assert not any((straight.checkpoints / ".partial").glob("*"))
    one = RunDirectory(tmp_path / "one")
    train_in(one, config("train.steps=6", "train.keep_checkpoints=1"))
    assert [path.name for path in one.checkpoints.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_checkpoint_lists_its_files_and_their_sizes(straight: RunDirectory) -> None:
    checkpoint = straight.checkpoints / "checkpoint-6"
    sizes = json.loads((checkpoint / FILES).read_text())
    assert sizes == {path.name: path.stat().st_size for path in checkpoint.iterdir() if path.name != FILES}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= set(sizes)
    assert "training_args.bin" not in sizes


@pytest.mark.parametrize("damage", ["shorter", "missing", "no list", "list cut short", "state cut short"])
def test_an_incomplete_checkpoint_is_not_used(straight: RunDirectory, tmp_path: Path, damage: str) -> None:
    shutil.copytree(straight.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    newest = run.checkpoints / "checkpoint-6"
    shortened = {"shorter": "model.safetensors", "list cut short": FILES, "state cut short": "trainer_state.json"}
    if damage in shortened:
        path = newest / shortened[damage]
        path.write_bytes(path.read_bytes()[:-10])
    else:
        (newest / {"missing": "optimizer.pt", "no list": FILES}[damage]).unlink()
    assert last_checkpoint(run.checkpoints) == 4


def test_a_run_resumed_from_the_earlier_checkpoint_ends_the_same(straight: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(straight.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    shutil.rmtree(run.policy)
    run.update(status="running", finished_at=None)
    (run.checkpoints / "checkpoint-6" / "optimizer.pt").write_bytes(b"cut short")
    (run.checkpoints / ".partial" / "checkpoint-8").mkdir(parents=True)
    (run.checkpoints / ".partial" / "checkpoint-8" / "trainer_state.json").write_text('{"global_step": 8}')
    train_in(run, config())
    ours, theirs = read_metrics(run.path), read_metrics(straight.path)
    assert without_times(ours) == without_times(theirs)
    assert sorted(path.name for path in run.checkpoints.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    assert last_checkpoint(run.checkpoints) == 6
