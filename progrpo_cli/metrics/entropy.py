"""Entropy bounds for a distribution of which only the k most likely tokens are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TopKEntropy:
    """Entropy bounds of T distributions, (T,) each."""

    entropy: Floats
    """The contribution of the k most likely tokens in nats, a lower bound of the entropy."""
    missing_mass: Floats
    """The total probability of the other tokens."""
    at_most: Floats
    """An upper bound of the entropy in nats."""


def topk_entropy(logps: Floats, vocabulary: int) -> TopKEntropy:
    """Bound entropies from the k most likely tokens.

    With m the missing mass, the other V - k tokens add at least 0 and at most m log((V - k) / m), the value for equally
    likely tokens (Cover & Thomas 2006, theorem 2.6.4). Logarithms are natural.

    Args:
        logps: (T, k) log-probabilities of the k most likely tokens of each distribution, in any order; -inf for
            impossible tokens.
        vocabulary: V, at least k.

    Raises:
        ValueError: k is 0 or above V.
    """
    k = logps.shape[1]
    if not 1 <= k <= vocabulary:
        raise ValueError(f"expected 1 <= k <= V, not k = {k} and V = {vocabulary}")
    probabilities = np.exp(logps)
    entropy = -(probabilities * np.where(probabilities > 0, logps, 0.0)).sum(axis=1)
    missing = np.clip(1.0 - probabilities.sum(axis=1), 0.0, 1.0)
    others = vocabulary - k
    if others == 0:
        missing = np.zeros_like(missing)  # no other token exists; the rest is rounding
    spread = np.zeros_like(missing)
    np.log(max(1, others) / np.where(missing > 0, missing, 1.0), out=spread, where=missing > 0)
    return TopKEntropy(entropy, missing, entropy + missing * spread)
