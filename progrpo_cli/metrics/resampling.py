"""Draws of a mean over problems, from which :mod:`progrpo_cli.metrics.bootstrap` makes intervals.

Two sets of draws are blended. Their weights depend on how many problems the spread and the skew of the values rest on
(:func:`studentised_share`):

- many problems: the studentised bootstrap, which accounts for the observed skew (Efron & Tibshirani 1993, section
  12.5);
- few problems: Gaffke's interval for bounded values, which adds one unseen problem with the worst possible value
  (Gaffke 2005; Learned-Miller & Thomas, arXiv 1905.06208). Here the unseen problem has the worst value with probability
  2/3 and the best value otherwise. On values of 0 and 1 this is the exact binomial interval with two thirds of the
  probability of the observed count (Clopper & Pearson use all of it, the mid-p interval half). It covers at least 93 %
  from 30 problems on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bounds = tuple[float, float]

_CHUNK_VALUES = 250_000  # 2 MB of weights at a time, which stay in the cache however many problems there are
_ROWS_AT_ONCE = 32  # 2.5 MB of draws each, in one matrix product
_MAX_DEVIATION = 12.706
"""Studentised deviations are cut off here, in standard errors: the 97.5 % quantile of Student's t for two values."""
UNSEEN_IS_WORST = 2 / 3
"""The probability that the unseen problem has the worst possible value."""
_SPREAD_THRESHOLDS = (3.0, 10.0)
_SKEW_THRESHOLDS = (5.0, 20.0)
"""Effective numbers of problems above which studentised draws are used at all, and above which they are used alone."""
_ROUNDING_SHARE = 1e-9
"""Deviations below this share of the distance between the bounds are rounding errors."""


def effective_problems(values: Floats, bounds: Bounds) -> tuple[Floats, Floats]:
    """How many problems the spread and the skew of each row of ``values`` (R, P) rest on, (R,) each.

    For the spread: the sum of the distances to the median divided by the largest distance, from 0 (all values equal) to
    P. For values of 0 and 1 it is the number of problems with the rarer value.

    For the skew: P over the squared skewness, infinite without skew. For values of 0 and 1 with one of them rare it is
    about the same number. It is small for a long tail on one side, which makes studentised intervals too short, but not
    for long tails on both sides, which do not.
    """
    problems = values.shape[1]
    distances = _distances(values, bounds)
    largest = distances.max(axis=1)
    spread: Floats = np.divide(distances.sum(axis=1), largest, out=np.zeros_like(largest), where=largest > 0)
    centred = (values - values.mean(axis=1, keepdims=True)) / np.where(largest > 0, largest, 1.0)[:, None]
    second, third = (np.where(largest > 0, (centred**power).mean(axis=1), 0.0) for power in (2, 3))
    without_skew = np.where(largest > 0, np.inf, 0.0)
    skew: Floats = np.divide(problems * second**3, third**2, out=without_skew, where=np.abs(third) > 1e-12)
    return spread, skew


def studentised_share(values: Floats, bounds: Bounds) -> Floats:
    """The weight of the studentised draws for each row of ``values`` (R, P): (R,), from 0 to 1."""
    shares = (
        np.clip((count - few) / (enough - few), 0, 1)
        for count, (few, enough) in zip(
            effective_problems(values, bounds), (_SPREAD_THRESHOLDS, _SKEW_THRESHOLDS), strict=True
        )
    )
    share: Floats = np.minimum(*shares)
    return share


def draw_interval_ends(
    values: Floats, bounds: Sequence[Bounds | None], *, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Draws of the lower and the upper end of the mean of each row of ``values`` (R, P): (R, resamples) each.

    The 0.025 quantile of the first and the 0.975 quantile of the second are the ends of a row's 95 % interval.

    Each row is sorted and resampled on its own, so equal values have equal draws, independent of the order of problems
    and of the other rows. For a paired comparison pass a row of differences.

    Args:
        values: finite; one row per metric or method, one column per problem.
        bounds: for each row the smallest and largest possible value. None if the values are unbounded; then only the
            studentised draws are used.
    """
    values = np.sort(values, axis=1)
    lows = values.mean(axis=1, keepdims=True) - _studentised_errors(np.random.default_rng(seed), values, resamples)
    highs = lows.copy()
    blended: dict[int, tuple[float, float, float]] = {}
    for row, limits in enumerate(bounds):
        if limits is not None:
            share = float(studentised_share(values[row : row + 1], limits)[0])
            if share < 1:
                blended[row] = (share, *_unseen_range(values[row], limits, share))
    if blended:
        rows = list(blended)
        shares, lowest, highest = (np.array(column)[:, None] for column in zip(*blended.values(), strict=True))
        random = np.random.default_rng([seed, values.shape[1]])
        with_unseen = _draw_with_unseen(random, values[rows], lowest, highest, resamples)
        studentised = np.sort(lows[rows], axis=1)
        for ends, draws in zip((lows, highs), with_unseen, strict=True):
            ends[rows] = (1 - shares) * np.sort(draws, axis=1) + shares * studentised  # quantile by quantile
    return lows, highs


def _distances(values: Floats, bounds: Bounds) -> Floats:
    """Distances to the median of each row, (R, P)."""
    distances: Floats = np.abs(values - np.median(values, axis=1, keepdims=True))
    distances[distances < _ROUNDING_SHARE * (bounds[1] - bounds[0])] = 0.0
    return distances


def unseen_range(values: Floats, bounds: Bounds) -> tuple[float, float]:
    """The smallest and largest value that :func:`draw_interval_ends` assumes for an unseen problem, given (P,)."""
    return _unseen_range(values, bounds, float(studentised_share(values[None, :], bounds)[0]))


def _unseen_range(values: Floats, bounds: Bounds, share: float) -> tuple[float, float]:
    """The range of values of an unseen problem, given the weight of the studentised draws.

    It reaches to the bounds if few problems carry the spread. With more problems it shrinks geometrically towards the
    distance of the farthest observed problem, because a bound may lie far beyond all observed values.
    """
    middle = float(np.median(values))
    farthest = float(np.abs(values - middle).max())
    lower, upper = (
        min(distance, distance ** (1 - share) * farthest**share) if share > 0 else distance
        for distance in (middle - bounds[0], bounds[1] - middle)
    )
    return middle - lower, middle + upper


def _resample_counts(random: np.random.Generator, problems: int, resamples: int) -> Iterator[Floats]:
    """Chunks (B, P): how often each problem occurs in each resample."""
    size = max(1, _CHUNK_VALUES // problems)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = random.integers(problems, size=(count, problems))
        drawn += problems * np.arange(count)[:, None]  # one bincount for all resamples of the chunk
        yield np.bincount(drawn.ravel(), minlength=count * problems).reshape(count, problems).astype(np.float64)


def _studentised_errors(random: np.random.Generator, values: Floats, resamples: int) -> Floats:
    """Studentised errors of the means of ``values`` (R, P), in the unit of the data: (R, resamples)."""
    problems = values.shape[1]
    longest = _MAX_DEVIATION / math.sqrt(max(1, problems - 1))
    centred = values - values.mean(axis=1, keepdims=True)
    errors = np.empty((len(values), resamples))
    done = 0
    for weights in _resample_counts(random, problems, resamples):
        for first in range(0, len(values), _ROWS_AT_ONCE):
            rows = centred[first : first + _ROWS_AT_ONCE]
            deviation = rows @ weights.T / problems
            spread = np.sqrt(np.maximum(rows**2 @ weights.T / problems - deviation**2, 0.0))
            # The standard error is spread / sqrt(P - 1). It is 0 for resamples of equal values.
            usual = np.abs(deviation) < longest * spread
            studentised = np.divide(deviation, spread, out=longest * np.sign(deviation), where=usual)
            row_errors = studentised * rows.std(axis=1, keepdims=True)
            errors[first : first + _ROWS_AT_ONCE, done : done + len(weights)] = row_errors
        done += len(weights)
    return errors


def _draw_with_unseen(
    random: np.random.Generator, values: Floats, lowest: Floats, highest: Floats, resamples: int
) -> tuple[Floats, Floats]:
    """Draws of both ends, (R, resamples) each, with Dirichlet weights over the P problems and one unseen problem.

    Args:
        values: (R, P).
        lowest, highest: (R, 1) the range of the unseen problem's value.
    """
    lows, highs = np.empty((2, len(values), resamples))
    size = max(1, _CHUNK_VALUES // (values.shape[1] + 1))
    for start in range(0, resamples, size):
        weights = random.standard_exponential((min(size, resamples - start), values.shape[1] + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        is_worst = random.random(len(weights)) < UNSEEN_IS_WORST
        seen = values @ weights[:, :-1].T
        chunk = slice(start, start + len(weights))
        lows[:, chunk] = seen + weights[:, -1] * np.where(is_worst, lowest, highest)
        highs[:, chunk] = seen + weights[:, -1] * np.where(is_worst, highest, lowest)
    return lows, highs
