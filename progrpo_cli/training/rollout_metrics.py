"""Metrics of a rollout, over all processes."""

from __future__ import annotations

import math

import numpy as np
import torch

from progrpo_cli.metrics.passk import pass_at_k_per_problem


def mean(values: torch.Tensor) -> float | None:
    """The mean without NaN, or None if there is no value: a metric that cannot be measured is null, never 0."""
    value = values.nanmean().item() if values.numel() else math.nan
    return None if math.isnan(value) else value


def pass_at_k(correct: torch.Tensor) -> dict[str, float | None]:
    """Pass@1 and Pass@G of a rollout by the unbiased estimator, with the n = G samples of each group.

    Args:
        correct: (N, G) bool.
    """
    group_size = correct.size(1)
    counts = correct.sum(dim=1).cpu().numpy()
    samples = np.full(len(counts), group_size)
    return {f"pass@{k}": float(pass_at_k_per_problem(samples, counts, k).mean()) for k in (1, group_size)}
