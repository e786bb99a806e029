"""ARM on the parts of a rollout without a trainer: it needs only a :class:`Shard`."""

import torch

from progrpo_cli.methods.base import ArmConfig, Rollout
from progrpo_cli.training.arm_step import ArmStep
from progrpo_cli.training.shard import Batch, Shard

GROUPS, SIZE = 3, 2
PROMPTS = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).repeat_interleave(SIZE, dim=0)
CORRECT = torch.tensor([[True, False], [False, False], [True, True]])
ADVANTAGES = torch.tensor([1.0, -1.0, 0.5, -0.5, 0.0, 0.0])
LOGPS = -torch.arange(1.0, 13.0).view(6, 2) / 10


def local_batch(rank: int, world: int) -> Batch:
    rows = slice(rank * 6 // world, (rank + 1) * 6 // world)
    return {
        "prompt_ids": PROMPTS[rows],
        "prompt_mask": torch.ones_like(PROMPTS[rows]),
        "completion_mask": torch.ones(6, 2)[rows],
        "advantages": ADVANTAGES[rows],
        "logps": LOGPS[rows],
    }


def apply_arm(rank: int, world: int) -> tuple[ArmStep, torch.Tensor, list[int]]:
    """ARM on one process's part: the step, the advantages, and the number of prompts in each pass."""
    passes = []

    def score(ids: torch.Tensor, mask: torch.Tensor, count: int) -> torch.Tensor:
        passes.append(len(ids))
        return -ids[:, -count:].float() / 10

    batch = local_batch(rank, world)
    shard = Shard.from_batch(batch, rank, group_size=SIZE, world=world, gather=lambda tensor: tensor, score=score)
    rollout = Rollout(CORRECT, torch.ones_like(CORRECT), CORRECT.float(), ADVANTAGES.view(GROUPS, SIZE), None)
    step = ArmStep(ArmConfig(alpha=0.5, low_fraction=1.0), batch, rollout, shard)
    step.apply(batch, batch["logps"])
    assert step.complete
    return step, batch["advantages"], passes


def test_two_processes_compute_the_same_as_one_although_a_group_is_split() -> None:
    _, whole, passes = apply_arm(0, world=1)
    assert passes == [GROUPS]  # each prompt once
    parts = [apply_arm(rank, world=2) for rank in (0, 1)]
    assert torch.equal(torch.cat([advantages for _, advantages, _ in parts]), whole)
    assert [passes for _, _, passes in parts] == [[2], [2]]  # three rows each, and equally many prompts on both


def test_finish_returns_arms_metrics_and_columns() -> None:
    step, whole, _ = apply_arm(0, world=1)
    prompt = torch.exp(-PROMPTS[:, 1:].float().mean(dim=1) / 10)
    answer = torch.exp(LOGPS.mean(dim=1))
    gate = CORRECT.any(dim=1).repeat_interleave(SIZE)
    expected = torch.where(gate, ADVANTAGES + 0.5 * (prompt - answer), ADVANTAGES)
    torch.testing.assert_close(whole, expected)
    metrics, columns = step.finish()
    torch.testing.assert_close(torch.tensor(columns["A~"]), expected)
    torch.testing.assert_close(torch.tensor(columns["c(q)"]), prompt)
    assert columns["A"] == ADVANTAGES.tolist()
    assert metrics["arm/gated_fraction"] == torch.tensor(2 / 3).item()
