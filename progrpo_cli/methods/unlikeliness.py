"""The unlikeliness reward (arXiv 2506.02355): the more likely a right sample was, the smaller its reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from progrpo_cli.methods.base import Method, Rollout, group_relative
from progrpo_cli.section import Fraction

if TYPE_CHECKING:
    import torch


class Unlikeliness(Method):
    """Rewards right samples with r_i (1 - beta_rank (G - rank_i) / G), then computes GRPO's A_i.

    The most likely sample of a group has rank 0. As in the authors' script, groups whose samples are all right have the
    advantage 0, unless ``keep_all_right`` is set.
    """

    name: Literal["unlikeliness"]
    beta_rank: Fraction
    keep_all_right: bool = False
    """Apply the formula to groups that are all right too; their likelier samples then get a negative advantage."""
    arm: None = None
    needs_logps: ClassVar[bool] = True
    version_of_code: ClassVar[int] = 2

    def advantages(self, rollout: Rollout) -> torch.Tensor:
        assert rollout.logps is not None
        size = rollout.logps.size(1)
        rank = rollout.logps.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        factor = 1 - self.beta_rank * (size - rank) / size
        advantages = group_relative(rollout.rewards.where(~rollout.correct, rollout.rewards * factor))
        if self.keep_all_right:
            return advantages
        all_right = (rollout.correct | ~rollout.scorable).all(dim=1, keepdim=True)
        return advantages.masked_fill(all_right, 0.0)
