"""p values of a bootstrap interval, also when 0 lies beyond all draws."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from progrpo_cli.metrics.resampling import UNSEEN_IS_WORST, Bounds, unseen_range
from progrpo_cli.metrics.student import quantile, upper_tail

Floats = npt.NDArray[np.float64]

MIN_P = 1e-6
"""The smallest p value reported: farther out the tail is a guess."""
_MIN_COUNT = 25
"""With at least this many draws beyond 0, p is their share. With fewer, the tail is extrapolated."""
_TAIL_QUANTILE = 0.01
"""Beyond this quantile of the draws the tail is Student's t."""


def two_sided_p(
    lows: Floats,
    highs: Floats,
    problem_draws: tuple[Floats, Floats],
    values: Floats,
    bounds: Bounds | None,
    seed_error: tuple[float, float],
) -> float:
    """The level at which the interval would just touch 0, at least :data:`MIN_P`.

    Args:
        lows, highs: draws of both ends with the errors of problems and seeds, (B,).
        problem_draws: draws of both ends with the error of problems alone, (B,) each.
        values: the values whose mean was drawn, (P,).
        bounds: the bounds of these values.
        seed_error: standard error (0 if there is none) and degrees of freedom of the seeds' part.
    """
    below, above = int((lows <= 0).sum()), int((highs >= 0).sum())
    smaller = min(below, above)
    share = (smaller + 1) / (len(lows) + 1)  # the data count as one more resample, so p is never 0
    value = float(values.mean())
    if smaller < _MIN_COUNT and value != 0:
        ends, sign = (problem_draws[0], 1.0) if below <= above else (problem_draws[1], -1.0)
        tail = _student_tail(sign * ends, sign * value, len(values) - 1, seed_error)
        if bounds is not None:
            least, greatest = unseen_range(values, bounds)
            tail = max(tail, _unseen_tail(sign * values, least if sign > 0 else -greatest))
        share = min((_MIN_COUNT + 1) / (len(lows) + 1), tail)
    return float(min(1.0, max(MIN_P, 2 * share)))


def _student_tail(ends: Floats, value: float, df: int, seed_error: tuple[float, float]) -> float:
    """The probability that a drawn end minus the seeds' error is below 0, for a ``value`` above 0.

    The draws of the problems' part are used down to their 1 % quantile. Beyond it they are continued by Student's t,
    scaled to meet the draws there. The seeds' part is Student's t itself, so it is integrated instead of drawn.
    """
    error, seed_df = seed_error
    ends = np.sort(ends)
    cut = max(1, int(_TAIL_QUANTILE * len(ends)))
    reach = value - float(ends[cut])
    if reach <= 0:  # all draws are equal
        return 0.0 if error == 0 else float(upper_tail(value / error, seed_df)[0])
    scale = reach / quantile(1 - cut / len(ends), max(1, df))
    if error == 0:
        return float(upper_tail(value / scale, max(1, df))[0])
    steps = np.linspace(reach / scale, 20 * reach / scale, 400)
    levels = upper_tail(steps, max(1, df))
    middles = value - scale * (steps[1:] + steps[:-1]) / 2
    far = float((-np.diff(levels) * upper_tail(middles / error, seed_df)).sum() + levels[-1])
    return float(upper_tail(ends[cut:] / error, seed_df).sum()) / len(ends) + far


def _unseen_tail(values: Floats, unseen: float) -> float:
    """The probability that the mean of the values (P,) and one unseen worst value is below 0 under Dirichlet weights.

    This is the tail of a weighted sum of exponentials, computed by Lugannani and Rice's saddlepoint formula (Adv. Appl.
    Probab. 12, 1980). It prevents a few problems that all point the same way from giving a smaller p than the sign
    test: for k such problems it is about ``UNSEEN_IS_WORST * 0.5 ** k``.
    """
    with_unseen = np.append(values, unseen)
    if unseen >= 0 or with_unseen.mean() <= 0:
        return 0.0 if unseen >= 0 else 0.5
    low, high = 1 / float(with_unseen.min()), 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if (with_unseen / (1 - middle * with_unseen)).sum() > 0 else (middle, high)
    saddlepoint = (low + high) / 2
    exponent = float(-np.log1p(-saddlepoint * with_unseen).sum())
    root = -math.sqrt(max(0.0, -2 * exponent))
    scaled = saddlepoint * math.sqrt(float(((with_unseen / (1 - saddlepoint * with_unseen)) ** 2).sum()))
    if root > -1e-3:
        return UNSEEN_IS_WORST / 2
    density = math.exp(-(root**2) / 2) / math.sqrt(2 * math.pi)
    probability = math.erfc(-root / math.sqrt(2)) / 2 + density * (1 / root - 1 / scaled)
    return UNSEEN_IS_WORST * min(0.5, max(0.0, probability))
