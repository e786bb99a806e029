"""W-REINFORCE (arXiv 2506.01347, eq. 9): full weight on wrong samples, the weight lambda on right ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from progrpo_cli.methods.base import Method, Rollout
from progrpo_cli.section import NonNegativeFloat

if TYPE_CHECKING:
    import torch


class WReinforce(Method):
    """Advantage +positive_weight for right and -1 for wrong samples, without group normalisation; 0 if not scorable."""

    name: Literal["w_reinforce"]
    positive_weight: NonNegativeFloat
    """lambda."""
    arm: None = None

    def advantages(self, rollout: Rollout) -> torch.Tensor:
        signed = rollout.correct * self.positive_weight - (~rollout.correct).to(rollout.advantages.dtype)
        return signed.to(rollout.advantages.dtype) * rollout.scorable
