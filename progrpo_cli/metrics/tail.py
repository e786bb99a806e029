"""How unlikely 0 is under an interval's draws, also where it lies beyond all of them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from progrpo_cli.metrics.resampling import UNSEEN_IS_WORST, Bounds, unseen_range
from progrpo_cli.metrics.student import quantile, upper_tail

Floats = npt.NDArray[np.float64]

MIN_P = 1e-6
"""No p is said to be smaller: so far out the tail is a guess."""
_COUNTED = 25
"""With so many draws beyond 0 or more, p is their share; with fewer the tail is continued."""
_ANCHOR = 0.01
"""Beyond this quantile of the draws the tail of Student's t takes over."""


def two_sided_p(
    lows: Floats,
    highs: Floats,
    drawn: tuple[Floats, Floats],
    values: Floats,
    bounds: Bounds | None,
    seeds: tuple[float, float],
) -> float:
    """The level at which the interval would just touch 0, at least :data:`MIN_P`.

    Args:
        lows, highs: draws of both ends with the errors of problems and seeds, (B,).
        drawn: the same with the problems' error alone, (B,).
        values: what they are draws of the mean of, (P,).
        bounds: of these values.
        seeds: standard error (0: there is none) and degrees of freedom of the seeds' part.
    """
    below, above = int((lows <= 0).sum()), int((highs >= 0).sum())
    smaller = min(below, above)
    share = (smaller + 1) / (len(lows) + 1)  # one more resample than drawn, so never 0
    value = float(values.mean())
    if smaller < _COUNTED and value != 0:
        ends, sign = (drawn[0], 1.0) if below <= above else (drawn[1], -1.0)
        beyond = _continued(sign * ends, sign * value, len(values) - 1, seeds)
        if bounds is not None:
            least, greatest = unseen_range(values, bounds)
            beyond = max(beyond, _by_unseen(sign * values, least if sign > 0 else -greatest))
        share = min((_COUNTED + 1) / (len(lows) + 1), beyond)
    return float(min(1.0, max(MIN_P, 2 * share)))


def _continued(ends: Floats, value: float, df: int, seeds: tuple[float, float]) -> float:
    """The chance that an end drawn, less the seeds' error, is below 0, for a ``value`` above it.

    The draws of the problems' part count down to their 1 % quantile. From there on it is Student's t, with the scale
    that makes the two meet. The seeds' part is Student's t itself and so is not drawn but integrated.
    """
    error, of_seeds = seeds
    ends = np.sort(ends)
    cut = max(1, int(_ANCHOR * len(ends)))
    reach = value - float(ends[cut])
    if reach <= 0:  # all draws are alike
        return 0.0 if error == 0 else float(upper_tail(value / error, of_seeds)[0])
    scale = reach / quantile(1 - cut / len(ends), max(1, df))
    if error == 0:
        return float(upper_tail(value / scale, max(1, df))[0])
    steps = np.linspace(reach / scale, 20 * reach / scale, 400)
    levels = upper_tail(steps, max(1, df))
    middles = value - scale * (steps[1:] + steps[:-1]) / 2
    far = float((-np.diff(levels) * upper_tail(middles / error, of_seeds)).sum() + levels[-1])
    return float(upper_tail(ends[cut:] / error, of_seeds).sum()) / len(ends) + far


def _by_unseen(values: Floats, unseen: float) -> float:
    """The chance that Dirichlet weights over the values (P,) and a worst one that was not seen have a mean below 0.

    That of a sum of exponentials, by Lugannani and Rice's saddlepoint formula (Adv. Appl. Probab. 12, 1980). It keeps a
    few problems that all speak for one side from saying more than the sign test: for k such problems it is about
    ``UNSEEN_IS_WORST * 0.5 ** k``.
    """
    every = np.append(values, unseen)
    if unseen >= 0 or every.mean() <= 0:
        return 0.0 if unseen >= 0 else 0.5
    low, high = 1 / float(every.min()), 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if float((every / (1 - middle * every)).sum()) > 0 else (middle, high)
    at = (low + high) / 2
    exponent = float(-np.log1p(-at * every).sum())
    root = -math.sqrt(max(0.0, -2 * exponent))
    scaled = at * math.sqrt(float(((every / (1 - at * every)) ** 2).sum()))
    if root > -1e-3:
        return UNSEEN_IS_WORST / 2
    density = math.exp(-(root**2) / 2) / math.sqrt(2 * math.pi)
    chance = math.erfc(-root / math.sqrt(2)) / 2 + density * (1 / root - 1 / scaled)
    return UNSEEN_IS_WORST * min(0.5, max(0.0, chance))
