"""ARM, the Advantage Re-weighting Mechanism of ProGRPO (arXiv 2602.05281), as pure functions on tensors.

For a prompt q and its group of G completions o_1..o_G with advantages A_i::

    c(q)   = exp( mean over t >= 2 of log p(q_t | q_<t) )                       prompt confidence
    c(o|q) = exp( mean over t in T_low(o) of log p(o_t | q, o_<t) )             answer confidence
    A~_i   = A_i + alpha * (c(q) - c(o_i|q))     if the group's gate is open, else A_i

T_low(o) is the set of the ceil(rho * |o|) tokens with the LOWEST probability; |o| includes the end-of-sequence token.
:func:`confidence` selects them. Both confidences are computed from the policy that sampled, at the sampling
temperature, and are constants to the gradient. ``docs/method.md`` has the equations and what the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from progrpo_cli.methods.base import ArmConfig


def prompt_token_mask(prompt_mask: torch.Tensor) -> torch.Tensor:
    """The prompt tokens that are predicted: those after another prompt token.

    Args:
        prompt_mask: (B, P), 1 on the tokens of a left-padded prompt.

    Returns:
        (B, P-1) bool, aligned with log p(q_t | q_<t) for t = 2..P. It is false on the first token of a left-padded
        prompt, whose log-probability comes from a padding position.
    """
    return (prompt_mask[:, 1:] * prompt_mask[:, :-1]).bool()


def confidence(logps: torch.Tensor, mask: torch.Tensor, low_fraction: float) -> torch.Tensor:
    """exp of the mean log-probability over T_low, the ``ceil(low_fraction * length)`` least likely tokens of each row.

    Args:
        logps: (B, T) log-probabilities in nats. Values outside the mask are ignored, NaN included.
        mask: (B, T), true on the tokens of the row. A token with NaN inside the mask (the back end could not score it)
            is dropped and does not count towards the length.
        low_fraction: rho in (0, 1]; 1 selects all tokens.

    Returns:
        (B,) in (0, 1], detached. NaN for a row without tokens, which has no confidence.
    """
    import torch

    logps = logps.detach()
    mask = mask.bool() & ~torch.isnan(logps)
    length = mask.sum(dim=1)
    # Double precision and a margin, because in floating point 0.07 * 100 is 7.000000000000001 but means 7 tokens.
    count = torch.ceil(length.double() * low_fraction - 1e-9).long().clamp(min=1).where(length > 0, length)
    ascending = logps.masked_fill(~mask, torch.inf).sort(dim=1).values
    in_t_low = torch.arange(logps.size(1), device=logps.device) < count.unsqueeze(1)
    total = torch.where(in_t_low, ascending, torch.zeros_like(ascending)).sum(dim=1)
    return torch.exp(total / count)  # 0 / 0 gives the NaN of a row without tokens


def open_groups(correct: torch.Tensor, gate: str) -> torch.Tensor:
    """Which groups are re-weighted.

    Args:
        correct: (N, G) bool, whether each completion is right by the correctness reward, without any bonus.
        gate: ``any_correct`` (the formula: at least one completion is right) or ``mixed`` (right and wrong ones).

    Returns:
        (N,) bool.
    """
    any_correct = correct.any(dim=1)
    return any_correct if gate == "any_correct" else any_correct & ~correct.all(dim=1)


@dataclass(frozen=True)
class Reweighted:
    """Result of :func:`reweight`; each field is (B,)."""

    advantages: torch.Tensor
    """A~_i."""
    shift: torch.Tensor
    """A~_i - A_i; zero for samples that are not shifted."""
    shifted: torch.Tensor
    """Whether the sample is shifted, bool."""


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
    """A~_i = A_i + alpha * (c(q) - c(o_i|q)) for the samples that gate and scope select; the others keep A_i.

    All tensors are (B,). ``gate_open`` is the result of :func:`open_groups`, repeated for each sample of a group. A
    sample that no reward function could score (``scorable`` is false) or that has no confidence also keeps A_i.
    """
    import torch

    shift = arm.alpha * (prompt_confidence - answer_confidence)
    shifted = gate_open & scorable & ~torch.isnan(shift)
    if arm.scope == "correct":
        shifted = shifted & correct
    shift = torch.where(shifted, shift, torch.zeros_like(shift)).to(advantages.dtype)
    return Reweighted(advantages + shift, shift, shifted)


def sign_flips(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Number of samples whose advantage ARM moved across zero: (B,) and (B,) to a scalar. Zero has no sign to flip."""
    return (before * after < 0).sum()
