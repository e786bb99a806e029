"""The reference policy: the one that training started from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import is_peft_model
from trl.trainer.utils import use_adapter

from progrpo_cli.training.shard import Batch


class ReferencePolicy:
    """Scores completions under the policy that training started from.

    Create it before a checkpoint is loaded, so that a resumed run has the same reference.

    Args:
        policy: the trained model, without the wrappers for several processes.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        # With an adapter no copy is needed: switching the adapter off gives the base policy.
        self._copy = None if is_peft_model(policy) else copy.deepcopy(policy).eval().requires_grad_(False)

    def logps(self, output: Batch, score: Callable[[Any, Batch], torch.Tensor]) -> torch.Tensor:
        """log pi_ref(o_t) of a rollout's completions, (B, C), in nats.

        Args:
            output: the rollout.
            score: returns the log-probabilities (B, C) of a rollout's completions under a given model.
        """
        if self._copy is not None:
            return score(self._copy, output)
        with use_adapter(self._policy, adapter_name=None):
            return score(self._policy, output)
