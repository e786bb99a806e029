"""Pass@k training (arXiv 2508.10751): the reward of k samples is Pass@k; the advantage is section 2.4's closed form."""

from __future__ import annotations

from math import comb, sqrt
from typing import TYPE_CHECKING, Literal

from progrpo_cli.methods.base import Method, Rollout
from progrpo_cli.section import Positive

if TYPE_CHECKING:
    import torch


def passk_advantages(wrong: int, size: int, k: int) -> tuple[float, float]:
    """The advantages of right and of wrong samples in a group.

    With N- = ``wrong`` and N = ``size``, R = 1 - C(N-, k) / C(N, k) is the mean reward of a subset of k samples (eq.
    11) and s = sqrt(R (1 - R)) its standard deviation (eq. 12). All subsets with a right sample are right:
    A+ = (1 - R) / s (eq. 14). A subset with a wrong sample is right if one of its other k - 1 samples is:
    A- = (1 - R - C(N- - 1, k - 1) / C(N - 1, k - 1)) / s (eq. 15). If all subsets have the same reward (s = 0), both
    are 0.
    """
    reward = 1 - comb(wrong, k) / comb(size, k)
    deviation = sqrt(reward * (1 - reward))
    if deviation == 0:
        return 0.0, 0.0
    all_wrong = comb(wrong - 1, k - 1) / comb(size - 1, k - 1)  # share of a wrong sample's subsets
    return (1 - reward) / deviation, (1 - reward - all_wrong) / deviation


class PassK(Method):
    """The mean group-relative advantage of a sample over all subsets of k samples of its group."""

    name: Literal["passk"]
    k: Positive
    """Samples in a subset; must be smaller than the group."""
    arm: None = None

    def misfit(self, *, group_size: int, max_new_tokens: int) -> str | None:
        if self.k >= group_size:  # at most one subset, so all advantages are 0
            return f"method.k={self.k} needs groups of more than k samples, and train.group_size is {group_size}"
        return None

    def advantages(self, rollout: Rollout) -> torch.Tensor:
        import torch

        size = rollout.correct.size(1)
        table = rollout.advantages.new_tensor([passk_advantages(wrong, size, self.k) for wrong in range(size + 1)])
        by_group = table[(~rollout.correct).sum(dim=1)]  # (N, 2): of right samples, of wrong samples
        return torch.where(rollout.correct, by_group[:, :1], by_group[:, 1:]) * rollout.scorable
