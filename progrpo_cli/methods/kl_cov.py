"""KL-Cov (arXiv 2505.22617, eq. 13 and 14): a KL penalty on the tokens that reduce entropy most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from progrpo_cli.methods.base import LossTerms, Method
from progrpo_cli.methods.clip_cov import token_covariance
from progrpo_cli.section import Fraction, PositiveFloat

if TYPE_CHECKING:
    import torch


class KlCov(Method):
    """Adds ``kl_coef`` |log pi_t - log pi_old,t| to the loss of the top ``fraction`` of the tokens by Cov_t.

    The absolute log-ratio is the authors' estimate of the KL term (their listing 1). On-policy it has no gradient.
    """

    name: Literal["kl_cov"]
    fraction: Fraction
    """k, the share of the micro-batch's tokens; at least one token is penalised."""
    kl_coef: PositiveFloat
    arm: None = None

    def token_loss(self, terms: LossTerms) -> torch.Tensor:
        import torch

        mask = terms.mask.bool()
        covariance = token_covariance(terms).masked_fill(~mask, -torch.inf).flatten()
        count = max(1, int(self.fraction * mask.sum().item()))
        coefficients = torch.zeros_like(covariance)
        coefficients[covariance.topk(count).indices] = self.kl_coef
        return coefficients.view_as(terms.logps) * (terms.logps - terms.old_logps).abs()
