"""Student's t distribution: far tails and quantiles for any positive degrees of freedom, without SciPy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def upper_tail(t: Floats | float, df: float) -> Floats:
    """The probability that Student's t exceeds ``t``, elementwise, to at least five significant digits.

    With ``t = sqrt(df) tan(angle)`` the density becomes a power of the cosine, which is integrated by Gauss-Legendre
    quadrature from the angle of ``t`` to where it vanishes.

    Args:
        t: any shape.
        df: degrees of freedom, above 0.
    """
    size = np.abs(np.atleast_1d(np.asarray(t, dtype=np.float64)))
    start = np.arctan(size / math.sqrt(df))
    # The integrand falls at least as fast as exp(-rate (angle - start)) and as exp(-df (angle - start)^2 / 2).
    rate = max(df - 1, 0.0) * np.tan(start) + math.sqrt(df)
    width = np.minimum(math.pi / 2 - start, 40 / rate)
    angles = start[..., None] + width[..., None] * (_NODES + 1) / 2
    with np.errstate(under="ignore"):
        integral = (np.cos(angles) ** (df - 1) * _WEIGHTS).sum(axis=-1) * width / 2
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    tail = scale * integral
    return np.where(np.atleast_1d(t) >= 0, tail, 1 - tail)


def quantile(level: float, df: float) -> float:
    """The ``level`` quantile of Student's t; ``level`` lies strictly between 0 and 1."""
    if level < 0.5:
        return -quantile(1 - level, df)
    low, high = 0.0, 1.0
    while float(upper_tail(high, df)[0]) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(upper_tail(middle, df)[0]) > 1 - level else (low, middle)
    return high
