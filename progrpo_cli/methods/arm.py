"""ARM, the Advantage Re-weighting Mechanism of ProGRPO (arXiv 2602.05281), as pure functions on tensors.

For a prompt q and its group of G completions o_1..o_G with advantages A_i::

    c(q)   = exp( mean over t >= 2 of log p(q_t | q_<t) )                       prompt confidence
    c(o|q) = exp( mean over t in T_low(o) of log p(o_t | q, o_<t) )             answer confidence
    A~_i   = A_i + alpha * (c(q) - c(o_i|q))     if the group's gate is open, else A_i

T_low(o) holds the ceil(rho * |o|) tokens of LOWEST probability, |o| counting the end-of-sequence token. Both come from
the policy that sampled, at the sampling temperature, and are constants to the gradient. The equations and what they
leave open stand in ``docs/method.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from progrpo_cli.methods.base import ArmConfig


def prompt_token_mask(prompt_mask: torch.Tensor) -> torch.Tensor:
    """The prompt tokens that have a prediction: real tokens whose predecessor is real.

    Args:
        prompt_mask: (B, P), 1 on the tokens of a left-padded prompt.

    Returns:
        (B, P-1) bool, aligned with log p(q_t | q_<t) for t = 2..P. On a left-padded row the first real token is scored
        from a padding position: it is no prediction and is left out.
    """
    return (prompt_mask[:, 1:] * prompt_mask[:, :-1]).bool()


def confidence(logps: torch.Tensor, mask: torch.Tensor, low_fraction: float) -> torch.Tensor:
    """exp of the mean log-probability over the ``ceil(low_fraction * length)`` least likely tokens of each row.

    Args:
        logps: (B, T) log-probabilities in nats; what stands outside the mask, NaN included, has no influence.
        mask: (B, T), true on the tokens that count. A NaN inside the mask (a back end that could not score the token)
            leaves that token out of the row and of its length.
        low_fraction: rho in (0, 1]; 1 takes every token.

    Returns:
        (B,) in (0, 1], detached; NaN for a row without tokens: it has no confidence.
    """
    import torch

    logps = logps.detach()
    mask = mask.bool() & ~torch.isnan(logps)
    length = mask.sum(dim=1)
    # In double precision and less a margin: 0.07 * 100 is 7.000000000000001 to a computer and still means 7 tokens.
    how_many = torch.ceil(length.double() * low_fraction - 1e-9).long().clamp(min=1).where(length > 0, length)
    ascending = logps.masked_fill(~mask, torch.inf).sort(dim=1).values
    taken = torch.arange(logps.size(1), device=logps.device) < how_many.unsqueeze(1)
    total = torch.where(taken, ascending, torch.zeros_like(ascending)).sum(dim=1)
    return torch.exp(total / how_many)  # 0 / 0 on an empty row is NaN, as promised


def open_groups(correct: torch.Tensor, gate: str) -> torch.Tensor:
    """Which groups are re-weighted.

    Args:
        correct: (N, G) bool, whether a completion is right: correctness alone, never a format bonus.
        gate: ``any_correct`` (the formula: somebody is right) or ``mixed`` (and somebody is wrong).

    Returns:
        (N,) bool.
    """
    somebody_right = correct.any(dim=1)
    return somebody_right if gate == "any_correct" else somebody_right & ~correct.all(dim=1)


@dataclass(frozen=True)
class Reweighted:
    """What ARM made of a batch; every field is (B,)."""

    advantages: torch.Tensor
    """A~_i."""
    shift: torch.Tensor
    """A~_i - A_i; zero where nothing was shifted."""
    shifted: torch.Tensor
    """bool: the samples that ARM reached."""


def reweight(
    advantages: torch.Tensor,
    prompt_confidence: torch.Tensor,
    answer_confidence: torch.Tensor,
    *,
    correct: torch.Tensor,
    scorable: torch.Tensor,
    gate_open: torch.Tensor,
    arm: ArmConfig,
) -> Reweighted:
    """A~_i = A_i + alpha * (c(q) - c(o_i|q)) for the samples that gate and scope let through.

    All tensors are (B,). ``gate_open`` is :func:`open_groups`, repeated for each sample of a group. A sample that no
    reward function could score (``scorable`` false) carries no learning signal and a sample without tokens or without
    a confidence has nothing to shift by: both keep A_i.
    """
    import torch

    shift = arm.alpha * (prompt_confidence - answer_confidence)
    shifted = gate_open & scorable & ~torch.isnan(shift)
    if arm.scope == "correct":
        shifted = shifted & correct
    shift = torch.where(shifted, shift, torch.zeros_like(shift)).to(advantages.dtype)
    return Reweighted(advantages + shift, shift, shifted)


def sign_flips(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """How many samples ARM pushed across zero: (B,) and (B,) to a scalar. From or to exactly zero is no flip."""
    return (before * after < 0).sum()
