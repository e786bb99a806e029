"""A method's own module on the prompt's hidden states, trained together with the policy."""

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
"""File of a checkpoint with the head's weights."""


class PromptHead:
    """Applies the module to the last hidden states of the loss's own forward pass, so that no second pass is made."""

    def __init__(self, module: torch.nn.Module, decoder: torch.nn.Module, learning_rate: float) -> None:
        self.module = module
        self._learning_rate = learning_rate
        self._hidden: torch.Tensor | None = None
        decoder.register_forward_hook(self._store_hidden)

    @classmethod
    def build(cls, method: Method, policy: Any, *, seed: int, device: torch.device) -> PromptHead | None:
        """The method's head, or None if it has none. It is initialised from the seed, the same on each process.

        Args:
            method: the run's method.
            policy: the trained model, without the wrappers for several processes.
            seed: the run's seed.
            device: the policy's device.
        """
        policy = policy.get_base_model() if is_peft_model(policy) else policy
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            head = method.head(policy.config.hidden_size)
        if head is None:
            return None
        module, learning_rate = head
        return cls(module.to(device), policy.get_decoder(), learning_rate)

    def _store_hidden(self, decoder: torch.nn.Module, args: Any, output: Any) -> None:
        self._hidden = output.last_hidden_state

    def predict(self, inputs: dict[str, Any]) -> torch.Tensor:
        """The module's value for each prompt, (B,), from the mean of the last hidden states over the prompt's tokens.

        The gradient reaches the policy.
        """
        assert self._hidden is not None
        mask = inputs["prompt_mask"].unsqueeze(2)
        prompts = self._hidden[:, : mask.size(1)]
        self._hidden = None
        means = (prompts * mask).sum(dim=1) / mask.sum(dim=1)
        values: torch.Tensor = self.module(means.float()).squeeze(1)
        return values

    def add_to(self, optimizer: torch.optim.Optimizer) -> None:
        """Add a parameter group for the head, with its own learning rate and no weight decay."""
        group = {"params": list(self.module.parameters()), "lr": self._learning_rate, "weight_decay": 0.0}
        optimizer.add_param_group(group)
        # The Trainer clears only the policy's gradients after an update.
        optimizer.register_step_post_hook(lambda *_: self.module.zero_grad())

    def average_gradients(self, accelerator: Accelerator) -> None:
        """Average the head's gradients over processes; DDP averages only those of the policy."""
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")


class PromptHeadMixin(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Trains, saves and resumes the method's head, if it has one, with the policy."""

    _head: PromptHead | None = None

    def extra_parameters(self) -> Iterable[torch.nn.Parameter]:
        """The parameters of the method's head."""
        return () if self._head is None else self._head.module.parameters()

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The Trainer's optimiser, with a parameter group for the head."""
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if is_new and self._head is not None:
            self._head.add_to(optimizer)
        return optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The Trainer's step; at the end of an update the head's gradients are averaged over processes."""
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
