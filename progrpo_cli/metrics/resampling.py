"""Draws of a mean over problems: what :mod:`progrpo_cli.metrics.bootstrap` makes intervals from.

Two sets of draws are blended, by how many problems the spread and the skew of the values rest on (:func:`studentised_share`):

- many: the studentised bootstrap, which knows the skew that was seen (Efron & Tibshirani 1993, section 12.5);
- few: Gaffke's interval for bounded values, which reckons with a problem that was not seen and has the worst value
  (Gaffke 2005; Learned-Miller & Thomas, arXiv 1905.06208). Here it has the worst value with a chance of two in three
  and else the best. On values of 0 and 1 that is the exact binomial interval with two thirds of the chance of the
  count seen (Clopper & Pearson count all of it, the mid-p interval half): it covers at least 93 % from 30 problems on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bounds = tuple[float, float]

_CHUNK_VALUES = 250_000  # 2 MB of weights at a time, however many problems there are: they stay in the cache
_ROWS_AT_ONCE = 32  # 2.5 MB of draws each, in one product of matrices
_LONGEST = 12.706
"""The longest studentised deviation that counts, in standard errors: Student's t for two values."""
UNSEEN_IS_WORST = 2 / 3
_SPREAD = (3.0, 10.0)
_SKEW = (5.0, 20.0)
"""How many problems must carry the spread, and the skew, for studentised draws to count, and to count alone."""
_ALIKE = 1e-9
"""Deviations below this share of the distance between the bounds are rounding."""


def effective_problems(values: Floats, bounds: Bounds) -> tuple[Floats, Floats]:
    """How many problems the spread and the skew of each row of ``values`` (R, P) rest on: (R,) each.

    The first is the sum of the distances to the median, in units of the largest of them, from 0 to P: of values of 0
    and 1 how many do not have the commoner one; 0 where all are alike. The second is P over the squared skewness,
    infinite without skew: of values of 0 and 1, most of them alike, it is that count again, and it tells a long tail on
    one side, which makes studentised intervals too short, from one on both, which does not.
    """
    problems = values.shape[1]
    distances = _distances(values, bounds)
    largest = distances.max(axis=1)
    of_spread: Floats = np.divide(distances.sum(axis=1), largest, out=np.zeros_like(largest), where=largest > 0)
    centred = (values - values.mean(axis=1, keepdims=True)) / np.where(largest > 0, largest, 1.0)[:, None]
    second, third = (np.where(largest > 0, (centred**power).mean(axis=1), 0.0) for power in (2, 3))
    without = np.where(largest > 0, np.inf, 0.0)
    of_skew: Floats = np.divide(problems * second**3, third**2, out=without, where=np.abs(third) > 1e-12)
    return of_spread, of_skew


def studentised_share(values: Floats, bounds: Bounds) -> Floats:
    """The share of the studentised draws for each row of ``values`` (R, P): (R,), from 0 to 1."""
    shares = (
        np.clip((count - few) / (enough - few), 0, 1)
        for count, (few, enough) in zip(effective_problems(values, bounds), (_SPREAD, _SKEW), strict=True)
    )
    share: Floats = np.minimum(*shares)
    return share


def draw_interval_ends(
    values: Floats, bounds: Sequence[Bounds | None], *, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Draws of the lower and the upper end of the mean of each row of ``values`` (R, P): (R, resamples) each.

    Rows are resampled one by one, the values of each in order of size: so the same values have the same draws, whatever
    their problems are called and whatever stands beside them. What is to be paired is a row of differences. The 0.025
    quantile of the first and the 0.975 quantile of the second are the ends of a row's 95 % interval.

    Args:
        values: finite, a row a metric or a method, a column a problem.
        bounds: for each row what a value cannot leave; None: nothing is known of values that were not seen, and the
            studentised draws count alone.
    """
    values = np.sort(values, axis=1)
    lows = values.mean(axis=1, keepdims=True) - _studentised(np.random.default_rng(seed), values, resamples)
    highs = lows.copy()
    edges: dict[int, tuple[float, float, float]] = {}
    for row, limits in enumerate(bounds):
        if limits is not None:
            share = float(studentised_share(values[row : row + 1], limits)[0])
            if share < 1:
                edges[row] = (share, *_worst(values[row], limits, share))
    if edges:
        rows = list(edges)
        shares, lowest, highest = (np.array(column)[:, None] for column in zip(*edges.values(), strict=True))
        random = np.random.default_rng([seed, values.shape[1]])
        unseen = _with_unseen(random, values[rows], lowest, highest, resamples)
        studentised = np.sort(lows[rows], axis=1)
        for ends, of_end in zip((lows, highs), unseen, strict=True):
            ends[rows] = (1 - shares) * np.sort(of_end, axis=1) + shares * studentised  # quantile by quantile
    return lows, highs


def _distances(values: Floats, bounds: Bounds) -> Floats:
    """To the median of the row, (R, P)."""
    distances: Floats = np.abs(values - np.median(values, axis=1, keepdims=True))
    distances[distances < _ALIKE * (bounds[1] - bounds[0])] = 0.0
    return distances


def unseen_range(values: Floats, bounds: Bounds) -> tuple[float, float]:
    """The least and the greatest value that :func:`draw_interval_ends` reckons with for a problem not seen, of (P,)."""
    return _worst(values, bounds, float(studentised_share(values[None, :], bounds)[0]))


def _worst(values: Floats, bounds: Bounds, share: float) -> tuple[float, float]:
    """What values a problem may have that was not seen.

    A bound where few problems carry the spread; with more of them it comes nearer, on a scale of ratios, to the
    distance of the farthest problem seen, since a bound may lie far beyond what anybody has seen.
    """
    middle = float(np.median(values))
    farthest = float(np.abs(values - middle).max())
    lower, upper = (
        min(distance, distance ** (1 - share) * farthest**share) if share > 0 else distance
        for distance in (middle - bounds[0], bounds[1] - middle)
    )
    return middle - lower, middle + upper


def _problem_weights(random: np.random.Generator, problems: int, resamples: int) -> Iterator[Floats]:
    """(B, P) chunks: how often each problem is in each resample."""
    size = max(1, _CHUNK_VALUES // problems)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = random.integers(problems, size=(count, problems))
        drawn += problems * np.arange(count)[:, None]  # one bincount for all resamples of the chunk
        yield np.bincount(drawn.ravel(), minlength=count * problems).reshape(count, problems).astype(np.float64)


def _studentised(random: np.random.Generator, values: Floats, resamples: int) -> Floats:
    """Errors of the means of ``values`` (R, P) by the draw of problems: (R, resamples), in the data's unit."""
    problems = values.shape[1]
    longest = _LONGEST / math.sqrt(max(1, problems - 1))
    centred = values - values.mean(axis=1, keepdims=True)
    drawn = np.empty((len(values), resamples))
    done = 0
    for weights in _problem_weights(random, problems, resamples):
        for first in range(0, len(values), _ROWS_AT_ONCE):
            some = centred[first : first + _ROWS_AT_ONCE]
            deviation = some @ weights.T / problems
            spread = np.sqrt(np.maximum(some**2 @ weights.T / problems - deviation**2, 0.0))
            # Standard errors are these spreads over sqrt(P - 1). Resamples of equal values have none to divide by.
            usual = np.abs(deviation) < longest * spread
            studentised = np.divide(deviation, spread, out=longest * np.sign(deviation), where=usual)
            of_rows = studentised * some.std(axis=1, keepdims=True)
            drawn[first : first + _ROWS_AT_ONCE, done : done + len(weights)] = of_rows
        done += len(weights)
    return drawn


def _with_unseen(
    random: np.random.Generator, values: Floats, lowest: Floats, highest: Floats, resamples: int
) -> tuple[Floats, Floats]:
    """Draws of both ends, (R, resamples) each: Dirichlet weights over the P problems and one that was not seen.

    Args:
        values: (R, P).
        lowest, highest: (R, 1), between them the unseen problem's value lies.
    """
    lows, highs = np.empty((2, len(values), resamples))
    size = max(1, _CHUNK_VALUES // (values.shape[1] + 1))
    for start in range(0, resamples, size):
        weights = random.standard_exponential((min(size, resamples - start), values.shape[1] + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        is_worst = random.random(len(weights)) < UNSEEN_IS_WORST
        seen = values @ weights[:, :-1].T
        here = slice(start, start + len(weights))
        lows[:, here] = seen + weights[:, -1] * np.where(is_worst, lowest, highest)
        highs[:, here] = seen + weights[:, -1] * np.where(is_worst, highest, lowest)
    return lows, highs
