"""Whether a policy does better than its base at another temperature: the line that temperatures draw, as a control.

In the plane of Pass@1 and Pass@k each temperature of the base is a point. Drawing a temperature by a coin for each
problem, and then all samples of the problem at it, reaches every point between two of them: Pass@1 and Pass@k are means
over problems, so theirs are mixed in the coin's proportions. (A coin for each sample would not do: Pass@k of mixed
samples is no mixture of Pass@k.) So what the base reaches without training is the upper concave hull of its
temperatures and everything that is worse in both: the line here is the largest Pass@k at a given Pass@1 or more.

The height of a policy is its Pass@k less the line at its Pass@1. Greedy gives the same k times and is no corner: the
line to it would be all but upright, and nothing could be said at equal Pass@1. Right of its last temperature the line
goes on as it came, above greedy, so that no policy looks better than it is.

The margin of a policy is its Pass@1 less that of the best temperature, greedy among them: where it is above 0, no
temperature reaches the policy's Pass@1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from progrpo_cli.metrics.bootstrap import RESAMPLES, SEED, Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

_CHUNK_VALUES = 500_000
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Standing:
    """Where a policy, or the mean of a method's seeds, stands to the temperatures of its base."""

    pass_1: float
    pass_k: float
    height: Interval
    """Pass@k less the line at the policy's Pass@1."""
    margin: Interval
    """Pass@1 less that of the base's best temperature."""
    best: int
    """The place of that temperature; places beyond the line's temperatures are those of Pass@1 alone."""
    left: int
    right: int
    share: float
    """The temperatures that reach the line at the policy's Pass@1, by their places, and the right one's share of the
    problems: one temperature alone where both are the same; above 1 where the line has ended and goes on as it came."""

    @property
    def beyond(self) -> bool:
        """Whether no temperature has its Pass@1, beyond noise."""
        return self.margin.low > 0

    @property
    def better(self) -> bool:
        """Whether no temperature, and no mixture of them, does as well, beyond noise."""
        return self.beyond or self.height.low > 0


@dataclass(frozen=True)
class _Line:
    """The line at each draw's Pass@1, and the temperatures that it was read off between."""

    value: Floats
    """(B,)"""
    left: Ints
    right: Ints
    share: Floats
    """(B,) each: the ends of the segment by their places, and the right one's weight, above 1 to its right."""


def measure_standing(
    base_pass_1: Floats,
    base_pass_k: Floats,
    first: Floats,
    last: Floats,
    *,
    greedy_pass_1: Floats | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Standing:
    """Height and margin of a policy or a method, each with its 95 % interval.

    One draw of problems for the base at all temperatures and the policy pairs them, and in each draw the line and the
    best temperature are found anew. A maximum over noisy temperatures is too high, so heights and margins are a little
    too low, and those of draws lower still. Of a height the deviation of the draws is turned round (measured less
    deviation), which takes that off again; a margin's ends are the draws' own quantiles, which leaves it with the base:
    turned round they covered 70 to 88 % where two temperatures are about the best. Neither is studentised: which
    temperatures count changes from draw to draw, and with them the standard error (docs/statistics.md).

    Seeds add Student's t, as in :func:`progrpo_cli.metrics.bootstrap.crossed_bootstrap`, but of Pass@1 and Pass@k together, and
    the line is read off anew at each draw's Pass@1. With one seed the interval is about that policy.

    Args:
        base_first: (T, P) the base's Pass@1, a row a temperature and a column a problem.
        base_last: (T, P) its Pass@k, in the same order.
        first: (S, P) the policy's Pass@1, a row a seed, on the same problems.
        last: (S, P) its Pass@k.
        first_alone: (A, P) the base's Pass@1 at temperatures that have nothing else: greedy.
        resamples: draws of problems.
        seed: of the draws.

    Raises:
        ValueError: no temperatures, seeds or problems, shapes that differ, or values that are not probabilities.
    """
    alone = base_pass_1[:0] if greedy_pass_1 is None else greedy_pass_1
    _check(base_pass_1, base_pass_k, first, last, alone)
    temperatures, every = len(base_pass_1), len(base_pass_1) + len(alone)
    columns = np.vstack([base_pass_1, alone, base_pass_k, first.mean(axis=0), last.mean(axis=0)])
    means = columns.mean(axis=1, keepdims=True)
    line = _line_at(means[:temperatures], means[every:-2], means[-2])
    heights, margins = _heights_and_margins(means, temperatures)
    drawn = _draws(columns, temperatures, resamples, seed)
    of_height, of_margin = (of - measured for of, measured in zip(drawn, (heights, margins), strict=True))
    if len(first) > 1:
        across, up = _seeds_drawn(first, last, resamples, seed)
        at_1, at_k = (np.repeat(means[rows], resamples, axis=1) for rows in (slice(temperatures), slice(every, -2)))
        # Where the method may be, and its height there: the line bends, so that deviations must not be turned round.
        moved = means[-1] - up - _line_at(at_1, at_k, means[-2] - across).value
        of_height, of_margin = of_height + heights - moved, of_margin + across
    height = _interval(float(heights[0]), heights - of_height)
    margin = _interval(float(margins[0]), margins + of_margin)
    return Standing(
        pass_1=float(means[-2, 0]),
        pass_k=float(means[-1, 0]),
        height=height,
        margin=margin,
        best=int(means[:every, 0].argmax()),
        left=int(line.left[0]),
        right=int(line.right[0]),
        share=float(line.share[0]),
    )


def hull(first: Floats, last: Floats) -> list[int]:
    """The corners of the line, from left to right, as places in ``first`` and ``last`` (T,): mean Pass@1 and Pass@k.

    The leftmost has the largest Pass@k of all; left of it the line goes on level.
    """
    corners: list[int] = []
    for place in sorted(range(len(first)), key=lambda t: (-first[t], -last[t])):  # from the right: Pass@k has to rise
        if corners and last[place] <= last[corners[-1]]:
            continue
        while len(corners) > 1 and _is_below(first, last, corners[-2], corners[-1], place):
            corners.pop()
        corners.append(place)
    return corners[::-1]


def _is_below(first: Floats, last: Floats, right: int, middle: int, left: int) -> bool:
    """Whether the middle one is on or below the segment of the others."""
    across = (first[right] - first[left]) * (last[middle] - last[left])
    return bool(across <= (first[middle] - first[left]) * (last[right] - last[left]))


def _check(base_pass_1: Floats, base_pass_k: Floats, first: Floats, last: Floats, alone: Floats) -> None:
    for name, one, other in (
        ("the base", base_pass_1, base_pass_k),
        ("the policy", first, last),
        ("Pass@1 alone", alone, alone),
    ):
        if one.ndim != 2 or one.shape != other.shape or (one is not other and 0 in one.shape):
            raise ValueError(f"{name}: Pass@1 {one.shape} and Pass@k {other.shape} must be two equal tables, not empty")
        if not all(((values >= 0) & (values <= 1)).all() for values in (one, other)):  # NaN is not, either
            raise ValueError(f"{name}: Pass@1 and Pass@k must lie from 0 to 1")
    if len({base_pass_1.shape[1], first.shape[1], alone.shape[1]}) > 1:
        raise ValueError("the base and the policy must have the same problems")


def _line_at(first: Floats, last: Floats, x: Floats) -> _Line:
    """The largest Pass@k of mixtures of temperatures whose Pass@1 is at least x, and right of them the last segment.

    Args:
        first, last: (T, B) means of the temperatures in each draw.
        x: (B,) the policy's Pass@1.
    """
    count, draws = first.shape
    last_of_all = first.argmax(axis=0)
    within = np.minimum(x, first.max(axis=0))
    past = x > within
    alone = np.where(first >= within, last, -np.inf)  # (T, B)
    right = alone.argmax(axis=0)
    every = np.arange(draws)
    value, left = alone[right, every], right.copy()
    share = np.ones(draws)
    for one in range(count):
        for other in range(count):
            holds = np.where(past, last_of_all == other, within <= first[other])
            between = holds & (first[one] < np.minimum(within, first[other])) & (last[one] > last[other])
            if not between.any():
                continue
            length = np.where(between, first[other] - first[one], 1.0)
            weight = (x - first[one]) / length
            mixed = last[one] + weight * (last[other] - last[one])
            # The upper of all segments above the temperatures is the lowest of them past the last.
            taken = between & np.where(past, mixed < value - _ROUNDING, mixed > value + _ROUNDING)
            value, share = np.where(taken, mixed, value), np.where(taken, weight, share)
            left, right = np.where(taken, one, left), np.where(taken, other, right)
    return _Line(value, left, right, share)


def _heights_and_margins(means: Floats, temperatures: int) -> tuple[Floats, Floats]:
    """Height and margin in each draw, (B,).

    Args:
        means: (K, B) of Pass@1 at the line's temperatures, of Pass@1 alone, of Pass@k at the line's temperatures, of
            the policy's Pass@1 and its Pass@k.
        temperatures: how many are the line's.
    """
    first, last = means[: -2 - temperatures], means[-2 - temperatures : -2]
    x, y = means[-2], means[-1]
    return y - _line_at(first[:temperatures], last, x).value, x - first.max(axis=0)


def _draws(columns: Floats, temperatures: int, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Height and margin in each draw of problems, (resamples,) each."""
    problems = columns.shape[1]
    random = np.random.default_rng(seed)
    size = max(1, _CHUNK_VALUES // problems)
    means = []
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = random.integers(problems, size=(count, problems)) + problems * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * problems).reshape(count, problems) / problems
        means.append(columns @ weights.T)
    return _heights_and_margins(np.concatenate(means, axis=1), temperatures)


def _seeds_drawn(first: Floats, last: Floats, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Errors of the means of Pass@1 and Pass@k, (S, P) each, by the draw of seeds: (resamples,) each.

    Student's t of both, with the covariance of the seeds' means less the part of the interaction of seeds and problems,
    which the draws of problems hold already (Searle, Casella & McCulloch 1992, section 4.3).
    """
    values = np.stack([first, last])
    _, seeds, problems = values.shape
    of_seeds = values.mean(axis=2)
    of_both = values.mean(axis=(1, 2), keepdims=True)
    residuals = values - of_seeds[:, :, None] - values.mean(axis=1, keepdims=True) + of_both
    flat = residuals.reshape(2, -1)
    interaction = flat @ flat.T / ((seeds - 1) * max(1, problems - 1)) / (seeds * problems)
    sizes, directions = np.linalg.eigh(np.cov(of_seeds) / seeds - interaction)
    factor = directions * np.sqrt(np.maximum(sizes, 0.0))
    random = np.random.default_rng([seed, 1])
    scale = np.sqrt((seeds - 1) / random.chisquare(seeds - 1, resamples))
    across, up = factor @ random.standard_normal((2, resamples)) * scale
    return across, up


def _interval(value: float, draws: Floats) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975)).tolist()
    return Interval(value, low, high)
