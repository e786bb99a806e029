"""KL-Cov (arXiv 2505.22617, eq. 13 and 14): the tokens that cost most entropy are held to the policy that sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from progrpo_cli.methods.base import LossTerms, Method
from progrpo_cli.methods.clip_cov import token_covariance
from progrpo_cli.section import Fraction, PositiveFloat

if TYPE_CHECKING:
    import torch


class KlCov(Method):
    """The top ``fraction`` of the tokens by Cov_t get ``kl_coef`` |log pi_t - log pi_old,t| added to their loss.

    The absolute log-ratio is how the authors estimate the KL term (their listing 1); on-policy it has no gradient.
    """

    name: Literal["kl_cov"]
    fraction: Fraction
    """k, of the batch's tokens (of one micro-batch); at least one token is taken."""
    kl_coef: PositiveFloat
    arm: None = None

    def token_loss(self, terms: LossTerms) -> torch.Tensor:
        import torch

        mask = terms.mask.bool()
        covariance = token_covariance(terms).masked_fill(~mask, -torch.inf).flatten()
        how_many = max(1, int(self.fraction * mask.sum().item()))
        penalised = torch.zeros_like(covariance)
        penalised[covariance.topk(how_many).indices] = self.kl_coef
        return penalised.view_as(terms.logps) * (terms.logps - terms.old_logps).abs()
