"""Each method on two processes (gloo, CPU), on a recorded rollout."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import CommandLine
from every_method import train_two_updates

from progrpo_cli.methods.registry import method_classes
from progrpo_cli.policies import policy

pytestmark = pytest.mark.long

METHODS = sorted(method_classes())
PER_MICRO_BATCH = {"clip_cov", "kl_cov", "entropy_bonus"}  # their loss depends on the micro-batches by definition
PER_PROCESS = {"dapo"}  # each process fills its own part of the rollout with mixed groups
NOT_COMPARED = {"step_time", "epoch", "num_tokens"}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    directory = tmp_path_factory.mktemp("two")
    program = str(Path(__file__).with_name("every_method.py"))
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
    done = subprocess.run(
        [sys.executable, *launch, program, str(directory), *METHODS],
        env=CommandLine(directory).environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(directory / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("method", METHODS)
def test_both_processes_have_the_same_policy_and_log(two: list[dict], method: str) -> None:
    ours, theirs = (process[method] for process in two)
    assert all(torch.equal(value, theirs["weights"][name]) for name, value in ours["weights"].items())
    for one, other in zip(ours["records"], theirs["records"], strict=True):
        assert {**one, "step_time": 0} == {**other, "step_time": 0}


@pytest.mark.parametrize("method", [name for name in METHODS if name not in PER_MICRO_BATCH | PER_PROCESS])
def test_two_processes_train_like_one(two: list[dict], method: str) -> None:
    one, both = train_two_updates(method), two[0][method]
    for ours, theirs in zip(one["records"], both["records"], strict=True):
        for name in set(ours) - NOT_COMPARED:
            if "clip_ratio" in name and name.endswith(("_min", "_max")):
                continue  # over completions, and not one of our metrics
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-5), name
    base, _ = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    moved = {name: one["weights"][name] - value for name, value in base.named_parameters()}
    assert max(change.abs().max().item() for change in moved.values()) > 2e-4  # two steps of Adam at a rate of 2e-4
    # Norms, not the largest element: for a gradient near 0, Adam's first step is the sign of its rounding error.
    for name, change in moved.items():
        difference = one["weights"][name] - both["weights"][name]
        assert difference.norm() < 5e-3 * change.norm(), name


def test_flowrls_head_is_trained_and_compared_too(two: list[dict]) -> None:
    assert any(name.startswith("head.") for name in two[0]["flowrl"]["weights"])
    first, second = (record["flowrl/log_partition"] for record in two[0]["flowrl"]["records"])
    assert abs(first - second) > 0.1


def test_each_process_fills_its_part_with_mixed_groups(two: list[dict]) -> None:
    """The first process has both mixed groups of the first rollout, so the second must sample again."""
    record = two[1]["dapo"]["records"][0]
    assert record["dapo/rollouts_sampled"] >= 2
    assert record["samples_drawn"] == record["dapo/rollouts_sampled"] * 16  # of both processes, each sample once
    assert record["dapo/unmixed_groups_kept"] == 0
    assert record["frac_reward_zero_std"] < 1
