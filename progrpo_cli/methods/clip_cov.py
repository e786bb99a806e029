"""Clip-Cov (arXiv 2505.22617, eq. 11 and 12): some tokens that would cost much entropy lose their gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from progrpo_cli.methods.base import LossTerms, Method, without_gradient_on
from progrpo_cli.section import Finite, Fraction

if TYPE_CHECKING:
    import torch


def token_covariance(terms: LossTerms) -> torch.Tensor:
    """(B, T) Cov_t = (log pi_t - mean)(A_t - mean), the means over the batch's tokens (eq. 10); no gradient."""
    mask = terms.mask.bool()
    logps = terms.logps.detach()
    advantages = terms.advantages.unsqueeze(1).expand_as(logps)
    return (logps - logps[mask].mean()) * (advantages - advantages[mask].mean())


class ClipCov(Method):
    """Of the tokens with Cov in [low, high], as many as a ``fraction`` of all tokens lose their gradient, at random.

    The authors' scripts take the ratio's clip off, and so does ours. Where ``clip_low`` and ``clip_high`` bring it
    back, tokens that it clips are no candidates.
    """

    name: Literal["clip_cov"]
    fraction: Fraction
    """r, of the batch's tokens (of one micro-batch)."""
    low: Finite
    high: Finite
    arm: None = None
    version_of_code: ClassVar[int] = 2
    logged: ClassVar[tuple[str, ...]] = ("candidate_fraction",)
    drawn: ClassVar[tuple[str, ...]] = logged

    def token_advantages(self, terms: LossTerms) -> torch.Tensor:
        return without_gradient_on(terms, self._chosen(terms))

    def metrics(self, terms: LossTerms) -> dict[str, torch.Tensor]:
        candidates = self._candidates(terms).sum()
        tokens = terms.mask.sum().clamp(min=1)
        return {"candidate_fraction": candidates / tokens}

    def _candidates(self, terms: LossTerms) -> torch.Tensor:
        covariance = token_covariance(terms)
        ratio = (terms.logps.detach() - terms.old_logps).exp()
        positive = (terms.advantages > 0).unsqueeze(1)
        negative = (terms.advantages < 0).unsqueeze(1)
        clipped = ((ratio > terms.clip[1]) & positive) | ((ratio < terms.clip[0]) & negative)
        return (covariance >= self.low) & (covariance <= self.high) & terms.mask.bool() & ~clipped

    def _chosen(self, terms: LossTerms) -> torch.Tensor:
        import torch

        candidates = self._candidates(terms)
        index = candidates.flatten().nonzero().squeeze(1)
        how_many = max(1, int(self.fraction * terms.mask.sum().item()))
        taken = index[torch.randperm(len(index), device=index.device)[:how_many]]
        chosen = torch.zeros_like(candidates.flatten())
        chosen[taken] = True
        return chosen.view_as(candidates)
