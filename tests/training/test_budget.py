"""Sample totals count refills and all processes, and after a resume they count each sample once."""

import json
import shutil
from pathlib import Path

import pytest
from command_line import TINY, read_metrics
from replay import SIZE, make_trainer, sample

from progrpo_cli.config.compose import compose
from progrpo_cli.records.budget import TOTALS, budget_of, take_back
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.training.launch import train_in
from progrpo_cli.training.sample_totals import FILE

UPDATES_PER_ROLLOUT, ROLLOUT_SIZE = 2, 4 * 4  # TINY: 4 prompts x 4 completions


def test_every_refill_is_counted(tmp_path: Path) -> None:
    """Two of the first rollout's four groups are mixed, so dapo samples a second rollout and grpo does not."""
    for method, rollouts in (("grpo", 1), ("dapo", 2)):
        _, trainer = make_trainer(tmp_path / method, f"method={method}")
        output = sample(trainer)
        totals = trainer.rollout_metrics
        assert totals["samples_drawn"] == rollouts * 4 * SIZE
        if method == "grpo":
            assert totals["tokens_drawn"] == output["completion_mask"].sum().item()
        sample(trainer)
        assert trainer.rollout_metrics["samples_drawn"] == 2 * rollouts * 4 * SIZE
        assert trainer.rollout_metrics["tokens_drawn"] == 2 * totals["tokens_drawn"]


def test_samples_in_evaluation_mode_are_not_counted(tmp_path: Path) -> None:
    _, trainer = make_trainer(tmp_path, "method=grpo")
    trainer.model.eval()
    trainer.num_generations_eval = SIZE
    sample(trainer)
    assert trainer.rollout_metrics["samples_drawn"] == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, RunDirectory]:
    """A run of four updates, and one killed after the third, which resumes from the checkpoint of the second."""
    config = compose(["method=dapo", *TINY, "tracking.wandb.mode=disabled"])
    directory = tmp_path_factory.mktemp("runs")
    straight, killed = RunDirectory(directory / "straight"), RunDirectory(directory / "killed")
    train_in(straight, config)
    _kill_after_three(straight, killed)
    train_in(killed, config)
    return straight, killed


def _kill_after_three(straight: RunDirectory, killed: RunDirectory) -> None:
    shutil.copytree(straight.path, killed.path)
    shutil.rmtree(killed.policy)
    killed.update(status="running", finished_at=None, budget=None)
    shutil.rmtree(killed.checkpoints / "checkpoint-4", ignore_errors=True)
    lines = killed.metrics_path.read_text().splitlines(keepends=True)
    killed.metrics_path.write_text("".join(lines[:3]))


def test_the_manifest_has_the_last_lines_totals(runs: tuple[RunDirectory, RunDirectory]) -> None:
    lines, budget = read_metrics(runs[0].path), runs[0].manifest()["budget"]
    assert budget == {"updates": 4, **{name: lines[-1][name] for name in TOTALS}}
    sampled = [int(line["dapo/rollouts_sampled"]) * ROLLOUT_SIZE for line in lines[::UPDATES_PER_ROLLOUT]]
    assert [line["samples_drawn"] for line in lines] == [sampled[0]] * 2 + [sum(sampled)] * 2
    assert sum(sampled) > 2 * ROLLOUT_SIZE, "there was no refill"
    assert lines[-1]["train_seconds"] == pytest.approx(sum(line["step_seconds"] for line in lines), abs=0.01)
    assert 0 < budget["tokens_drawn"] <= budget["samples_drawn"] * 24
    assert "taken_back" not in runs[0].manifest()


def test_a_resumed_run_counts_each_sample_once(runs: tuple[RunDirectory, RunDirectory]) -> None:
    straight, killed = (read_metrics(run.path) for run in runs)
    for name in ("samples_drawn", "tokens_drawn"):
        assert [line[name] for line in killed] == [line[name] for line in straight]
    assert killed[-1]["train_seconds"] == pytest.approx(sum(line["step_seconds"] for line in killed), abs=0.01)
    manifest = runs[1].manifest()
    assert manifest["budget"]["samples_drawn"] == straight[-1]["samples_drawn"]
    # The third update was lost with its process and repeated.
    lost = {name: straight[2][name] - straight[1][name] for name in TOTALS}
    assert manifest["taken_back"] == pytest.approx({"updates": 1, **lost}, abs=0.01)


def test_totals_stay_unknown_after_a_checkpoint_without_them(
    runs: tuple[RunDirectory, RunDirectory], tmp_path: Path
) -> None:
    old = RunDirectory(tmp_path / "old")
    _kill_after_three(runs[0], old)
    (old.checkpoints / "checkpoint-2" / FILE).unlink()
    sizes = old.checkpoints / "checkpoint-2" / "files.json"
    sizes.write_text(json.dumps({name: size for name, size in json.loads(sizes.read_text()).items() if name != FILE}))
    old_lines = [{k: v for k, v in line.items() if k not in TOTALS} for line in read_metrics(old.path)]
    old.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in old_lines))
    train_in(old, old.config())
    lines = read_metrics(old.path)
    assert [line.get("samples_drawn") for line in lines] == [None] * 4
    budget = old.manifest()["budget"]
    assert (budget["updates"], budget["samples_drawn"], budget["tokens_drawn"]) == (4, None, None)
    assert budget["train_seconds"] == pytest.approx(sum(line["step_seconds"] for line in lines), abs=0.01)
    assert old.manifest()["taken_back"] == {"updates": 1, **dict.fromkeys(TOTALS)}


def test_undone_samples_add_up_over_several_kills(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.lock():
        run.start(compose(), model="progrpo/lab-base", study=None)
    lines = [{"step": s, "samples_drawn": 10 * s, "tokens_drawn": 100 * s, "train_seconds": s / 2} for s in (1, 2, 3)]
    for _ in range(2):
        run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        take_back(run, 1)
        take_back(run, 1)  # no later lines are left
        assert [line["step"] for line in read_metrics(run.path)] == [1]
    twice = {"updates": 4, "samples_drawn": 40, "tokens_drawn": 400, "train_seconds": 2.0}
    assert run.manifest()["taken_back"] == twice
    take_back(run, 0)  # no checkpoint at all
    assert run.manifest()["taken_back"]["samples_drawn"] == 50
    assert read_metrics(run.path) == []


def test_a_value_that_is_not_a_number_is_unknown() -> None:
    budget = budget_of({"step": 3, "samples_drawn": "NaN", "tokens_drawn": float("nan"), "train_seconds": True})
    assert (budget.updates, budget.samples_drawn, budget.tokens_drawn, budget.train_seconds) == (3, None, None, None)
