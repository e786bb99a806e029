"""Clip-Cov (arXiv 2505.22617, eq. 11 and 12): removes the gradient of some tokens that would reduce entropy most."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from progrpo_cli.methods.base import LossTerms, Method
from progrpo_cli.section import Finite, Fraction

if TYPE_CHECKING:
    import torch


def token_covariance(terms: LossTerms) -> torch.Tensor:
    """Cov_t = (log pi_t - mean)(A_t - mean), (B, T), with means over the batch's tokens (eq. 10), without gradient."""
    mask = terms.mask.bool()
    logps = terms.logps.detach()
    advantages = terms.advantages.unsqueeze(1).expand_as(logps)
    return (logps - logps[mask].mean()) * (advantages - advantages[mask].mean())


class ClipCov(Method):
    """Removes the gradient of random tokens with Cov in [low, high], as many as a ``fraction`` of all tokens.

    As in the authors' scripts, the ratio is not clipped by default. If ``clip_low`` or ``clip_high`` is set, clipped
    tokens are not candidates.
    """

    name: Literal["clip_cov"]
    fraction: Fraction
    """r, the share of the micro-batch's tokens."""
    low: Finite
    high: Finite
    arm: None = None
    version_of_code: ClassVar[int] = 2
    logged: ClassVar[tuple[str, ...]] = ("candidate_fraction",)
    drawn: ClassVar[tuple[str, ...]] = logged

    def token_advantages(self, terms: LossTerms) -> torch.Tensor:
        return terms.advantages.unsqueeze(1).expand_as(terms.logps).masked_fill(self._choose_tokens(terms), 0.0)

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

    def _choose_tokens(self, terms: LossTerms) -> torch.Tensor:
        import torch

        candidates = self._candidates(terms)
        index = candidates.flatten().nonzero().squeeze(1)
        count = max(1, int(self.fraction * terms.mask.sum().item()))
        chosen = torch.zeros_like(candidates.flatten())
        chosen[index[torch.randperm(len(index), device=index.device)[:count]]] = True
        return chosen.view_as(candidates)
