"""The entropy of a distribution of which only the likeliest tokens are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TopK:
    """What k log-probabilities tell of an entropy; one value a distribution each, (T,)."""

    entropy: Floats
    """The part of the k likeliest tokens, in nats: a lower bound of the whole entropy."""
    missing_mass: Floats
    """The probability of all other tokens."""
    at_most: Floats
    """An upper bound of the whole entropy, in nats."""


def topk_entropy(logps: Floats, vocabulary: int) -> TopK:
    """Bounds of entropies from the k likeliest tokens.

    With m the missing mass, the other V - k tokens add at least 0 and at most m log((V - k) / m): all of them equally
    likely (Cover & Thomas 2006, theorem 2.6.4). Natural logarithms throughout.

    Args:
        logps: (T, k) log-probabilities of the k likeliest tokens of each distribution, in any order; -inf for none.
        vocabulary: V, at least k.

    Raises:
        ValueError: k is 0 or above V.
    """
    k = logps.shape[1]
    if not 1 <= k <= vocabulary:
        raise ValueError(f"1 <= k <= V is needed, not k = {k} and V = {vocabulary}")
    probabilities = np.exp(logps)
    entropy = -(probabilities * np.where(probabilities > 0, logps, 0.0)).sum(axis=1)
    missing = np.clip(1.0 - probabilities.sum(axis=1), 0.0, 1.0)
    others = vocabulary - k
    if others == 0:
        missing = np.zeros_like(missing)  # rounding: there is no other token
    spread = np.zeros_like(missing)
    np.log(max(1, others) / np.where(missing > 0, missing, 1.0), out=spread, where=missing > 0)
    return TopK(entropy, missing, entropy + missing * spread)
