"""Methods with a state of their own resume exactly after a kill (through the Python API)."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch
from command_line import TINY, read_metrics, without_times

from progrpo_cli.config.compose import compose
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.training.launch import train_in

LORA = "model.lora.rank=2 train.learning_rate=1e-3 train.micro_batch_size=4 train.gradient_checkpointing=true"
Resumed = Callable[[str], tuple[Path, Path]]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """A function from a method's name and options to two runs of four updates: an uninterrupted one, and one killed
    after the third update, which resumes from the checkpoint of the second."""

    @cache
    def runs(method: str) -> tuple[Path, Path]:
        config = compose([*f"method={method}".split(), *TINY, "tracking.wandb.mode=disabled"])
        directory = tmp_path_factory.mktemp("runs")
        straight, killed = RunDirectory(directory / "straight"), RunDirectory(directory / "killed")
        train_in(straight, config)
        shutil.copytree(straight.path, killed.path)
        shutil.rmtree(killed.policy)
        killed.update(status="running", finished_at=None)
        lines = killed.metrics_path.read_text().splitlines(keepends=True)
        killed.metrics_path.write_text("".join(lines[:3]))
        train_in(killed, config)
        assert len(killed.manifest()["resumed_at"]) == 1
        return straight.path, killed.path

    return runs


@pytest.mark.parametrize(
    ("method", "measured"),
    [
        ("flowrl", "flowrl/log_partition"),
        (f"flowrl {LORA}", "flowrl/log_partition"),
        (f"grpo_classic {LORA}", "kl"),
        ("dapo", "dapo/mixed_fraction"),
        ("grpo_classic", "kl"),
        ("clip_cov", "clip_cov/candidate_fraction"),
    ],
)
def test_a_resumed_run_has_the_same_metrics_and_policy(resumed: Resumed, method: str, measured: str) -> None:
    straight, killed = resumed(method)
    ours, theirs = read_metrics(straight), read_metrics(killed)
    assert [record["step"] for record in theirs] == [1, 2, 3, 4]
    assert without_times(ours) == without_times(theirs)  # bit for bit
    assert len({record[measured] for record in ours}) > 1, "the method's own metric is compared too"
    weights = [safetensors.torch.load_file(path / "policy" / "model.safetensors") for path in (straight, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("options", ["", f" {LORA}"])
def test_grpo_classic_keeps_the_base_as_its_reference_after_a_resume(resumed: Resumed, options: str) -> None:
    kl = [record["kl"] for record in read_metrics(resumed(f"grpo_classic{options}")[1])]
    assert kl[0] == pytest.approx(0, abs=1e-6)  # the base itself
    assert kl[2] > 1e-5  # update 3 is the first after the resume: the reference is not the policy at the resume


def test_flowrls_head_is_in_the_checkpoint_with_its_own_optimiser_group(resumed: Resumed) -> None:
    straight, _ = resumed("flowrl")
    checkpoint = straight / "checkpoints" / "checkpoint-2"
    head = safetensors.torch.load_file(checkpoint / "head.safetensors")
    groups = torch.load(checkpoint / "optimizer.pt", weights_only=True)["param_groups"]
    assert (groups[-1]["lr"], groups[-1]["weight_decay"]) == (1e-3, 0.0)
    assert {group["lr"] for group in groups[:-1]} == {2e-4}
    assert len(groups[-1]["params"]) == len(head)
    assert not list((straight / "policy").glob("head*")), "the policy must be a plain model"
