"""Messages and files of a run that goes wrong, and the tables of completions of one that does not."""

import json
import logging
import math
import shutil
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from command_line import TINY, CommandLine, read_metrics

from progrpo_cli.config.compose import compose
from progrpo_cli.config.schema import Config
from progrpo_cli.errors import WorkError
from progrpo_cli.records.files import read_lines
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tasks.base import Attempt, Problem, Task
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.tracking.wandb_offline import read_wandb_dir
from progrpo_cli.training import run as run_module
from progrpo_cli.training.checkpoints import last_checkpoint
from progrpo_cli.training.launch import train_in


def config(*overrides: str) -> Config:
    return compose([*TINY, "tracking.wandb.mode=disabled", "device=cpu", *overrides])


def test_a_value_that_is_not_finite_stops_the_run_and_saves_the_batch(progrpo: CommandLine) -> None:
    """The first update makes the weights huge, so the gradient of the second is NaN."""
    command = ["train", *TINY, "train.learning_rate=1e30", "train.save_every=1", "--run-dir", "run"]
    done = progrpo(*command, WANDB_MODE="disabled")
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("progrpo: update 2: gradient norm nan"), done.stderr
    assert "Traceback" not in done.stderr
    run = RunDirectory(progrpo.directory / "run")
    assert run.manifest()["status"] == "failed"
    assert "update 2: gradient norm nan" in run.manifest()["error"]
    assert [record["step"] for record in read_metrics(run.path)] == [1]
    assert last_checkpoint(run.checkpoints) == 0
    assert not run.policy.exists()
    failed = run.path / "failed" / "update-000002"
    assert str(Path("run") / "failed" / "update-000002") in last
    described = json.loads((failed / "step-0.json").read_text())
    assert (described["update"], described["gradient norm"]) == (2, "nan")
    assert len(described["prompts"]) == len(described["completions"]) == 16
    batch = safetensors.torch.load_file(failed / "batch-0.safetensors")
    assert batch["completion_ids"].shape == batch["completion_mask"].shape
    assert {"prompt_ids", "prompt_mask", "advantages", "old_per_token_logps"} <= set(batch)
    assert all(len(value) == 16 for value in batch.values() if value.ndim)


@pytest.fixture
def patch_trainer(monkeypatch: pytest.MonkeyPatch):
    """Call a function with the trainer of the next run before it trains."""

    original = run_module.LabTrainer

    def patch(prepare) -> None:
        class PatchedTrainer(original):
            def train(self, *args, **kwargs):
                prepare(self)
                return super().train(*args, **kwargs)

        monkeypatch.setattr(run_module, "LabTrainer", PatchedTrainer)

    return patch


def change_result(trainer, name: str, action) -> None:
    """In the third update, pass the return value of a method of the trainer through ``action``."""
    method = getattr(trainer, name)

    def changed(*args, **kwargs):
        value = method(*args, **kwargs)
        return action(trainer, value) if trainer.state.global_step == 2 else value

    setattr(trainer, name, changed)


def with_infinite_gradient(parameters, loss: torch.Tensor) -> torch.Tensor:
    next(iter(parameters)).grad.view(-1)[0] = math.inf
    return loss


@pytest.mark.parametrize(
    ("method", "where", "action", "message"),
    [
        ("progrpo", "_compute_loss", lambda trainer, loss: loss * math.nan, "loss nan, gradient norm nan"),
        (
            "grpo",
            "training_step",
            lambda trainer, loss: with_infinite_gradient(trainer.model.parameters(), loss),
            "gradient norm (inf|nan)",
        ),
        (
            "flowrl",
            "training_step",
            lambda trainer, loss: with_infinite_gradient(trainer._head.module.parameters(), loss),
            "gradient norm of the method's head inf",
        ),
    ],
)
def test_a_value_that_is_not_finite_changes_no_weight(
    method: str, where: str, action, message: str, patch_trainer, tmp_path: Path
) -> None:
    """It occurs in update 3. The checkpoint of update 2 stays the last one, and the run can continue from it."""
    run = RunDirectory(tmp_path / "run")
    captured = []

    def prepare(trainer) -> None:
        captured.append(trainer)
        change_result(trainer, "_compute_loss", lambda trainer, loss: captured.append(weights(trainer)) or loss)
        change_result(trainer, where, action)

    patch_trainer(prepare)
    with pytest.raises(WorkError, match=f"update 3: {message}"):
        train_in(run, config(f"method={method}"))
    trainer, before = captured
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))
    assert (run.manifest()["status"], last_checkpoint(run.checkpoints)) == ("failed", 2)
    assert (run.path / "failed" / "update-000003" / "batch-0.safetensors").is_file()
    patch_trainer(lambda trainer: None)
    train_in(run, config(f"method={method}"))
    assert run.finished
    assert [record["step"] for record in read_metrics(run.path)] == [1, 2, 3, 4]


def weights(trainer) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in [*trainer.model.parameters(), *trainer.extra_parameters()]]


@pytest.mark.parametrize("update", [2, 4])
def test_weights_that_are_not_finite_are_not_saved(update: int, patch_trainer, tmp_path: Path) -> None:
    """Here they arise after the checks of the update: at a checkpoint, and at the end."""

    def prepare(trainer) -> None:
        original = trainer.create_optimizer

        def create_optimizer(*args, **kwargs):
            optimizer = original(*args, **kwargs)
            optimizer.register_step_post_hook(overflow)
            return optimizer

        def overflow(*_) -> None:
            if trainer.state.global_step + 1 == update:
                next(trainer.model.parameters()).data.view(-1)[0] = math.inf

        trainer.create_optimizer = create_optimizer

    patch_trainer(prepare)
    run = RunDirectory(tmp_path / "run")
    with pytest.raises(WorkError, match=f"update {update} made weights that are not finite"):
        train_in(run, config())
    assert last_checkpoint(run.checkpoints) == update - 2
    assert not run.policy.exists()


def test_warnings_are_given_once_on_stderr_and_to_wandb(progrpo: CommandLine) -> None:
    """With a limit of one token, all completions are truncated and wrong; the entropy floor is above any entropy."""
    limits = ["task.max_new_tokens=1", "train.health.entropy_floor=100", "train.health.entropy_updates=2"]
    done = progrpo("train", *TINY, *limits, "--run-dir", "run", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("update ")]
    assert [line.partition(":")[0] for line in warnings] == ["update 1", "update 1", "update 2"]
    for part in ("no group has variance", "all completions are truncated", "entropy has been below 100 nats for 2"):
        assert sum(part in line for line in warnings) == 1, done.stderr
    alerts = (next((progrpo.directory / "run" / "wandb").glob("offline-run-*/run-*.wandb"))).read_bytes()
    assert b"no group has variance" in alerts
    (tracked,) = read_wandb_dir(progrpo.directory / "run" / "wandb")
    assert len(tracked.history) == 4


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    runs = {}
    for method in ("progrpo", "dapo"):
        runs[method] = RunDirectory(tmp_path_factory.mktemp("tables") / method)
        train_in(runs[method], config(f"method={method}", "train.steps=6"))
    return runs


@cache
def countdown() -> tuple[Task, dict[str, Problem]]:
    task = make_task(config().task)
    return task, {problem.prompt: problem for problem in task.problems("rl")}


def reads_as_correct(row: dict) -> bool:
    task, problems = countdown()
    return task.verdicts([Attempt(problems[row["prompt"]], row["completion"], finished=True)]) == ["correct"]


def test_the_last_rollouts_are_kept_with_their_arm_columns(tables: dict[str, RunDirectory]) -> None:
    run = tables["progrpo"]
    paths = sorted((run.path / "completions").iterdir())
    assert [path.name for path in paths] == ["update-000003.jsonl", "update-000005.jsonl"]
    metrics = {record["step"]: record for record in read_metrics(run.path)}
    for path in paths:
        rows = read_lines(path)
        assert len(rows) == 16
        logged = metrics[rows[0]["update"]]
        assert sum(row["rewards"]["correctness"] for row in rows) / 16 == pytest.approx(logged["reward"])
        for name, metric in (("c(q)", "arm/prompt_confidence"), ("c(o|q)", "arm/answer_confidence")):
            assert sum(row[name] for row in rows) / 16 == pytest.approx(logged[metric], abs=1e-6)
        for start in range(0, 16, 4):
            group = rows[start : start + 4]
            assert len({row["prompt"] for row in group}) == 1
            any_right = any(row["rewards"]["correctness"] for row in group)
            for row in group:
                shift = row["c(q)"] - row["c(o|q)"] if any_right else 0.0  # alpha is 1
                assert row["A~"] == pytest.approx(row["A"] + shift, abs=1e-5)
                assert row["rewards"]["correctness"] <= reads_as_correct(row)


def test_a_refilled_rollout_is_kept_with_its_own_rewards_and_advantages(tables: dict[str, RunDirectory]) -> None:
    for path in (tables["dapo"].path / "completions").iterdir():
        rows = read_lines(path)
        for start in range(0, 16, 4):
            group = rows[start : start + 4]
            right = [row["rewards"]["correctness"] for row in group]
            for row in group:
                assert row["rewards"]["correctness"] <= reads_as_correct(row)
            if len(set(right)) == 1:  # only keeps the rollout's shape
                assert [row["A"] for row in group] == [0.0] * 4
        assert any(row["A"] for row in rows)


def test_tables_of_updates_that_a_crash_undid_are_written_again(
    tables: dict[str, RunDirectory], tmp_path: Path
) -> None:
    shutil.copytree(tables["progrpo"].path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    shutil.rmtree(run.policy)
    run.update(status="running", finished_at=None)
    newest = run.path / "completions" / "update-000005.jsonl"
    before = newest.read_bytes()
    newest.write_text("written by a killed process\n")
    (run.path / "completions" / "update-000009.jsonl").write_text("\n")
    train_in(run, config("train.steps=6"))
    assert [path.name for path in sorted((run.path / "completions").iterdir())] == [
        "update-000003.jsonl",
        "update-000005.jsonl",
    ]
    assert newest.read_bytes() == before


def test_no_tables_are_written_with_keep_completions_0(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    train_in(run, config("train.steps=2", "train.keep_completions=0"))
    assert not (run.path / "completions").exists()


def test_the_log_of_a_quiet_run_has_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("progrpo").propagate = True
    train_in(RunDirectory(tmp_path / "run"), config("train.steps=2", "train.group_size=16"))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
