"""The fields of the lines in JSON-lines files. A field may be missing; null means that it could not be measured."""

from __future__ import annotations

from typing import TypedDict

MetricsLine = TypedDict(
    "MetricsLine",
    {
        "step": int,
        "reward": float,
        "reward_std": float,
        "zero_variance_fraction": float,
        "completion_length": float,
        "truncated_fraction": float,
        "sampling_logp_difference": float,
        "importance_sampling_ratio": float,
        "entropy": float,
        "clip_fraction": float,
        "clip_fraction_low": float,
        "clip_fraction_high": float,
        "grad_norm": float,
        "loss": float,
        "learning_rate": float,
        "kl": float,
        "step_seconds": float,
        "train_seconds": float,
        "samples_drawn": int | None,
        "tokens_drawn": int | None,
        "pass@1": float,
        "arm/prompt_confidence": float | None,
        "arm/answer_confidence": float | None,
        "arm/answer_confidence_correct": float | None,
        "arm/shift_mean": float | None,
        "arm/shift_std": float | None,
        "arm/gated_fraction": float | None,
        "arm/sign_flips": float | None,
    },
    total=False,
)
"""A line of ``metrics.jsonl``: an update. It may also have ``pass@G`` (G: completions per prompt),
``validation/METRIC``, ``rewards/FUNCTION/mean`` and ``/std``, ``sampling/...``, and a method's own ``METHOD/NAME``."""


class SampleLine(TypedDict, total=False):
    """A line of ``samples.jsonl``: a completion and its verdict."""

    problem_id: str
    sample_index: int
    text: str
    verdict: str
    tokens: int
    entropy: float | None
    logprob: float | None
    entropy_topk: float | None
    missing_mass: float | None
    entropy_at_most: float | None
