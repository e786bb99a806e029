"""A method's own module on the prompt's hidden state, trained beside the policy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.utils import is_peft_model
from transformers import Trainer

from progrpo_cli.methods.base import Method

FILE = "head.safetensors"
"""Of a checkpoint."""


class PromptHead:
    """Reads the last hidden states of the forward pass that the loss makes anyway."""

    def __init__(self, module: torch.nn.Module, decoder: torch.nn.Module, learning_rate: float) -> None:
        self.module = module
        self._learning_rate = learning_rate
        self._hidden: torch.Tensor | None = None
        decoder.register_forward_hook(self._keep)

    @classmethod
    def of(cls, method: Method, policy: Any, *, seed: int, device: torch.device) -> PromptHead | None:
        """The method's head, or None if it has none; the same on every process, by the run's seed.

        Args:
            method: the method.
            policy: what is trained, without the wrappers of several processes.
            seed: of the run.
            device: where the policy is.
        """
        policy = policy.get_base_model() if is_peft_model(policy) else policy
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            head = method.head(policy.config.hidden_size)
        if head is None:
            return None
        module, learning_rate = head
        return cls(module.to(device), policy.get_decoder(), learning_rate)

    def _keep(self, decoder: torch.nn.Module, args: Any, output: Any) -> None:
        self._hidden = output.last_hidden_state

    def of_prompts(self, inputs: dict[str, Any]) -> torch.Tensor:
        """(B,) from the mean of the last hidden states over each prompt's tokens; the gradient reaches the policy."""
        assert self._hidden is not None
        mask = inputs["prompt_mask"].unsqueeze(2)
        prompts = self._hidden[:, : mask.size(1)]
        self._hidden = None
        means = (prompts * mask).sum(dim=1) / mask.sum(dim=1)
        values: torch.Tensor = self.module(means.float()).squeeze(1)
        return values

    def join(self, optimizer: torch.optim.Optimizer) -> None:
        """Be trained by ``optimizer``: a group of its own, with its own learning rate and no weight decay."""
        group = {"params": list(self.module.parameters()), "lr": self._learning_rate, "weight_decay": 0.0}
        optimizer.add_param_group(group)
        # The Trainer takes the gradients of the policy away after an update, and knows of no other module.
        optimizer.register_step_post_hook(lambda *_: self.module.zero_grad())

    def average_gradients(self, accelerator: Accelerator) -> None:
        """DDP averages the gradients of the policy only."""
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")


class TrainsHead(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Trains, saves and resumes the method's head with the policy, where there is one."""

    _head: PromptHead | None = None

    def other_parameters(self) -> Iterable[torch.nn.Parameter]:
        """The parameters of the method's head."""
        return () if self._head is None else self._head.module.parameters()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The policy's groups, and one of its own for the head."""
        new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if new and self._head is not None:
            self._head.join(optimizer)
        return optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """TRL's, and the head's gradients averaged over the processes, which DDP does not know of."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if self._head is not None and self.accelerator.sync_gradients:
            self._head.average_gradients(self.accelerator)
        return loss

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self._head is not None and self.args.should_save:
            safetensors.torch.save_file(self._head.module.state_dict(), Path(output_dir) / FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self._head is not None and checkpoint is not None:
            self._head.module.load_state_dict(safetensors.torch.load_file(Path(checkpoint) / FILE))
