"""FlowRL (arXiv 2509.15207, eq. 6 and 7): trains the policy to sample in proportion to exp(beta r)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from progrpo_cli.methods.base import LossTerms, Method
from progrpo_cli.section import PositiveFloat

if TYPE_CHECKING:
    import torch


class FlowRl(Method):
    """The loss is the mean of w (log Z_phi(q) + (1/|o|) log pi(o|q) - beta r^ - (1/|o|) log pi_ref(o|q))^2.

    r^ is the group-normalised reward, equal to GRPO's A_i. w is the sequence's ratio pi/pi_old, clipped and without
    gradient. Z_phi is a 3-layer MLP on the mean of the prompt's last hidden states; as in the authors' public code, its
    gradient reaches the policy. ``docs/methods.md`` lists where that code and the paper differ.
    """

    name: Literal["flowrl"]
    beta: PositiveFloat
    head_learning_rate: PositiveFloat
    ratio: Literal["sequence", "length_normalised"]
    """w is pi/pi_old of the whole completion (the paper's), or its |o|-th root (as in GSPO)."""
    arm: None = None
    needs_reference: ClassVar[bool] = True
    logged: ClassVar[tuple[str, ...]] = ("log_partition", "residual")
    drawn: ClassVar[tuple[str, ...]] = logged

    def token_advantages(self, terms: LossTerms) -> torch.Tensor:
        return terms.advantages * 0.0  # no surrogate: the squared residual is the whole loss

    def sequence_loss(self, terms: LossTerms) -> torch.Tensor:
        return self._weight(terms) * self._residual(terms) ** 2

    def head(self, hidden_size: int) -> tuple[torch.nn.Module, float]:
        from torch import nn

        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.LayerNorm(hidden_size)]
        return nn.Sequential(*layers, nn.Linear(hidden_size, 1)), self.head_learning_rate

    def metrics(self, terms: LossTerms) -> dict[str, torch.Tensor]:
        assert terms.log_partition is not None
        weight = self._log_ratio(terms).exp()
        low, high = (weight < terms.clip[0]).float().mean(), (weight > terms.clip[1]).float().mean()
        return {
            "log_partition": terms.log_partition.mean(),
            "residual": self._residual(terms).abs().mean(),
            # The clip of this method acts on w, so these are shares of completions.
            "clip_ratio/low_mean": low,
            "clip_ratio/high_mean": high,
            "clip_ratio/region_mean": low + high,
        }

    def _log_ratio(self, terms: LossTerms) -> torch.Tensor:
        difference = (terms.logps.detach() - terms.old_logps) * terms.mask
        total = difference.sum(dim=1)
        return total if self.ratio == "sequence" else total / terms.mask.sum(dim=1).clamp(min=1)

    def _weight(self, terms: LossTerms) -> torch.Tensor:
        return self._log_ratio(terms).exp().clamp(*terms.clip)

    def _residual(self, terms: LossTerms) -> torch.Tensor:
        assert terms.reference_logps is not None
        assert terms.log_partition is not None
        length = terms.mask.sum(dim=1).clamp(min=1)
        above_reference = ((terms.logps - terms.reference_logps) * terms.mask).sum(dim=1) / length
        return terms.log_partition + above_reference - self.beta * terms.advantages
