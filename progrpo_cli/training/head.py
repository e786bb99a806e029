"""A method's own module on the prompt's hidden state, trained beside the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import is_peft_model

from progrpo_cli.methods.base import Method

if TYPE_CHECKING:
    from progrpo_cli.training.trainer import LabTrainer


class PromptHead:
    """Reads the last hidden states of the forward pass that the loss makes anyway."""

    def __init__(self, module: torch.nn.Module, decoder: torch.nn.Module, learning_rate: float) -> None:
        self.module = module
        self._learning_rate = learning_rate
        self._hidden: torch.Tensor | None = None
        decoder.register_forward_hook(self._keep)

    @classmethod
    def of(cls, method: Method, trainer: LabTrainer) -> PromptHead | None:
        """The method's head, or None if it has none; the same on every process, by the run's seed."""
        model = trainer.accelerator.unwrap_model(trainer.model)
        model = model.get_base_model() if is_peft_model(model) else model
        with torch.random.fork_rng():
            torch.manual_seed(trainer.args.seed)
            head = method.head(model.config.hidden_size)
        if head is None:
            return None
        module, learning_rate = head
        return cls(module.to(trainer.accelerator.device), model.get_decoder(), learning_rate)

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
