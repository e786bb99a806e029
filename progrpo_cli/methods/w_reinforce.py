"""W-REINFORCE (arXiv 2506.01347, eq. 9): wrong samples are pushed down in full, right ones pulled up by lambda only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from progrpo_cli.methods.base import Method, Rollout
from progrpo_cli.section import NonNegativeFloat

if TYPE_CHECKING:
    import torch


class WReinforce(Method):
    """Advantage +positive_weight for right, -1 for wrong, no group normalisation; 0 for what nobody could score."""

    name: Literal["w_reinforce"]
    positive_weight: NonNegativeFloat
    """lambda."""
    arm: None = None

    def advantages(self, rollout: Rollout) -> torch.Tensor:
        signed = rollout.correct * self.positive_weight - (~rollout.correct).to(rollout.advantages.dtype)
        return signed.to(rollout.advantages.dtype) * rollout.scorable
