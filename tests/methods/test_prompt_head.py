"""FlowRL's log-partition head in training."""

from pathlib import Path

import torch
from replay import make_trainer
from transformers import TrainerCallback


class Gradients(TrainerCallback):
    """Records the head's gradient before each step of the optimiser."""

    def __init__(self, head: torch.nn.Module) -> None:
        self.head = head
        self.gradients: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.gradients.append(torch.cat([p.grad.flatten().clone() for p in self.head.parameters()]))

    def on_step_end(self, args, state, control, **kwargs) -> None:
        assert all(p.grad is None or not p.grad.any() for p in self.head.parameters())


def test_the_heads_gradient_is_cleared_after_each_update(tmp_path: Path) -> None:
    """With a learning rate that moves no weight, two updates on a rollout have the same gradient."""
    still = ["train.learning_rate=1.0e-30", "method.head_learning_rate=1.0e-30", "train.steps=2"]
    for name, options in {"whole": [], "accumulated": ["train.micro_batch_size=8"]}.items():
        _, trainer = make_trainer(tmp_path / name, "method=flowrl", *still, *options)
        gradients = Gradients(trainer._head.module)
        trainer.add_callback(gradients)
        trainer.train()
        first, second = gradients.gradients
        assert first.abs().max() > 0
        assert torch.allclose(first, second, rtol=1e-4, atol=1e-4 * first.abs().max())


def test_the_head_is_trained_with_its_own_learning_rate(tmp_path: Path) -> None:
    """Adam's first step moves each weight that has a gradient by the learning rate."""
    _, trainer = make_trainer(tmp_path, "method=flowrl", "method.head_learning_rate=0.01", "train.steps=1")
    before = [parameter.detach().clone() for parameter in trainer._head.module.parameters()]
    policy_before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.train()
    moved = [(a - b).abs().max().item() for a, b in zip(trainer._head.module.parameters(), before, strict=True)]
    assert abs(max(moved) - 0.01) < 1e-4
    policy_moved = [(a - b).abs().max().item() for a, b in zip(trainer.model.parameters(), policy_before, strict=True)]
    assert abs(max(policy_moved) - 2e-4) < 1e-5
