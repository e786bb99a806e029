"""The policy that training started from, for methods that look back at it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import is_peft_model
from trl.trainer.utils import use_adapter

from progrpo_cli.training.shard import Batch


class Reference:
    """Made when the trainer is: before a checkpoint is loaded, so that a resumed run looks back at the same policy.

    Args:
        policy: what is trained, without the wrappers of several processes.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        # With an adapter the base policy is there already: the adapter is switched off.
        self._copy = None if is_peft_model(policy) else copy.deepcopy(policy).eval().requires_grad_(False)

    def logps(self, output: Batch, score: Callable[[Any, Batch], torch.Tensor]) -> torch.Tensor:
        """(B, C) log pi_ref(o_t) of a rollout's completions, in nats.

        Args:
            output: the rollout.
            score: gives the same under the model that it is handed.
        """
        if self._copy is not None:
            return score(self._copy, output)
        with use_adapter(self._policy, adapter_name=None):
            return score(self._policy, output)
