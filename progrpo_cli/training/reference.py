"""The policy that training started from, for methods that look back at it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import is_peft_model
from trl.trainer.utils import use_adapter

if TYPE_CHECKING:
    from progrpo_cli.training.trainer import LabTrainer


class Reference:
    """Made when the trainer is: before a checkpoint is loaded, so that a resumed run looks back at the same policy."""

    def __init__(self, trainer: LabTrainer) -> None:
        model = trainer.accelerator.unwrap_model(trainer.model)
        # With an adapter the base policy is there already: the adapter is switched off.
        self._copy = None if is_peft_model(model) else copy.deepcopy(model).eval().requires_grad_(False)

    def logps(self, trainer: LabTrainer, output: dict[str, Any]) -> torch.Tensor:
        """(B, C) log pi_ref(o_t) of a rollout's completions, in nats."""
        if self._copy is not None:
            return trainer.score(self._copy, output)
        with use_adapter(trainer.accelerator.unwrap_model(trainer.model), adapter_name=None):
            return trainer.score(trainer.model, output)
