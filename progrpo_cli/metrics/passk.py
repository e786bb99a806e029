"""Unbiased Pass@k: the probability that at least one of k samples drawn without replacement from n is correct."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]


@lru_cache(maxsize=2**16)  # few different arguments occur, and the exact integers are large
def pass_at_k(n: int, correct: int, k: int) -> float:
    """``1 - C(n - c, k) / C(n, k)`` (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    The arithmetic is exact up to one correctly rounded division, so nothing overflows or cancels. The plug-in estimate
    ``1 - (1 - c/n)**k`` would be biased, and so would drawing with replacement.

    Args:
        n: samples of the problem.
        correct: number of correct samples.
        k: samples drawn.

    Returns:
        A probability in [0, 1]; exactly 1.0 if fewer than k samples are wrong.

    Raises:
        ValueError: k < 1, k > n (the message states the required n), or not 0 <= correct <= n.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if k > n:
        raise ValueError(f"pass@{k} needs n >= {k} samples per problem, not {n}")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n} samples is impossible")
    subsets = math.comb(n, k)
    return (subsets - math.comb(n - correct, k)) / subsets


def pass_at_k_per_problem(n: Ints, correct: Ints, k: int) -> Floats:
    """:func:`pass_at_k` of each problem.

    Args:
        n: (P,) samples of each problem.
        correct: (P,) number of correct samples of each problem.
        k: samples drawn.

    Returns:
        (P,) float64, exactly the values of :func:`pass_at_k`.

    Raises:
        ValueError: the shapes differ, or a problem has k < 1, k > n or not 0 <= correct <= n.
    """
    if n.shape != correct.shape or n.ndim != 1:
        raise ValueError(f"n {n.shape} and correct {correct.shape} must both be (P,)")
    values = [pass_at_k(samples, right, k) for samples, right in zip(n.tolist(), correct.tolist(), strict=True)]
    return np.array(values, dtype=np.float64)
