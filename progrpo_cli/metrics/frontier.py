"""Whether a policy is better than its base at another sampling temperature.

In the plane of Pass@1 and Pass@k each temperature of the base is a point. Choosing between two temperatures by a coin
toss for each problem, and drawing all samples of the problem at the chosen temperature, reaches every point on the
segment between them, because Pass@1 and Pass@k are means over problems. (A coin toss for each sample would not:
Pass@k of mixed samples is not a mixture of Pass@k.) So the base reaches, without training, the upper concave hull of
its temperatures and every point that is worse in both coordinates. The *line* is the largest reachable Pass@k at a
given Pass@1 or more.

The *height* of a policy is its Pass@k minus the line at its Pass@1. Greedy decoding is not a corner of the line: it
gives the same answer k times, so the segment to it would be almost vertical, and nothing could be said at equal
Pass@1. To the right of its last temperature the line is extrapolated, above greedy, so that no policy looks better than
it is.

The *margin* of a policy is its Pass@1 minus that of the best temperature, including greedy. If it is above 0, no
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
    """The position of a policy, or of the mean of a method's seeds, relative to the temperatures of its base."""

    pass_1: float
    pass_k: float
    height: Interval
    """Pass@k minus the line at the policy's Pass@1."""
    margin: Interval
    """Pass@1 minus that of the base's best temperature."""
    best: int
    """Index of the best temperature. Indices of greedy rows follow those of the line's temperatures."""
    left: int
    right: int
    share: float
    """The line at the policy's Pass@1: the indices of the two temperatures that are mixed, and the share of problems at
    the right one. Both are equal if one temperature suffices; the share is above 1 where the line is extrapolated."""

    @property
    def beyond(self) -> bool:
        """Whether its Pass@1 is significantly above that of every temperature."""
        return self.margin.low > 0

    @property
    def better(self) -> bool:
        """Whether it is significantly better than every temperature and every mixture of temperatures."""
        return self.beyond or self.height.low > 0


@dataclass(frozen=True)
class _Line:
    """The line at each draw's Pass@1, and the segment that it was read from; (B,) each."""

    value: Floats
    left: Ints
    right: Ints
    share: Floats
    """Indices of the segment's ends, and the weight of the right end; above 1 where the line is extrapolated."""


def measure_standing(
    base_pass_1: Floats,
    base_pass_k: Floats,
    pass_1: Floats,
    pass_k: Floats,
    *,
    greedy_pass_1: Floats | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Standing:
    """Height and margin of a policy or a method, each with its 95 % interval.

    The base at all temperatures and the policy share each draw of problems, which pairs them. The line and the best
    temperature are determined anew in each draw. A maximum over noisy temperatures is biased upwards, so heights and
    margins are slightly too low, and those of the draws lower still. A height uses the reversed (basic) bootstrap,
    estimate minus deviation, which removes this bias. A margin uses the percentiles of the draws, which favours the
    base: reversed intervals covered 70 to 88 % where two temperatures are about equally good. Neither is studentised,
    because the temperatures that matter, and with them the standard error, change from draw to draw
    (docs/statistics.md).

    Seeds add Student's t as in :func:`progrpo_cli.metrics.bootstrap.crossed_bootstrap`, but jointly for Pass@1 and
    Pass@k, and the line is read at each draw's Pass@1. With one seed the interval is about that policy.

    Args:
        base_pass_1: (T, P) the base's Pass@1, one row per temperature and one column per problem.
        base_pass_k: (T, P) its Pass@k, in the same order.
        pass_1: (S, P) the policy's Pass@1 on the same problems, one row per seed.
        pass_k: (S, P) its Pass@k.
        greedy_pass_1: (A, P) the base's Pass@1 at temperatures without Pass@k, i.e. greedy.
        resamples: number of draws of problems.
        seed: seed of the draws.

    Raises:
        ValueError: no temperatures, seeds or problems, shapes that differ, or values that are not probabilities.
    """
    greedy = base_pass_1[:0] if greedy_pass_1 is None else greedy_pass_1
    _check(base_pass_1, base_pass_k, pass_1, pass_k, greedy)
    temperatures, with_greedy = len(base_pass_1), len(base_pass_1) + len(greedy)
    columns = np.vstack([base_pass_1, greedy, base_pass_k, pass_1.mean(axis=0), pass_k.mean(axis=0)])
    means = columns.mean(axis=1, keepdims=True)
    line = _line_at(means[:temperatures], means[with_greedy:-2], means[-2])
    heights, margins = _heights_and_margins(means, temperatures)
    draws = _draw_heights_and_margins(columns, temperatures, resamples, seed)
    height_errors, margin_errors = (drawn - mean for drawn, mean in zip(draws, (heights, margins), strict=True))
    if len(pass_1) > 1:
        errors_1, errors_k = _draw_seed_errors(pass_1, pass_k, resamples, seed)
        base_1, base_k = (
            np.repeat(means[rows], resamples, axis=1) for rows in (slice(temperatures), slice(with_greedy, -2))
        )
        # Heights at plausible positions of the method: the line bends, so these deviations must not be reversed.
        moved = means[-1] - errors_k - _line_at(base_1, base_k, means[-2] - errors_1).value
        height_errors, margin_errors = height_errors + heights - moved, margin_errors + errors_1
    height = _interval(float(heights[0]), heights - height_errors)
    margin = _interval(float(margins[0]), margins + margin_errors)
    return Standing(
        pass_1=float(means[-2, 0]),
        pass_k=float(means[-1, 0]),
        height=height,
        margin=margin,
        best=int(means[:with_greedy, 0].argmax()),
        left=int(line.left[0]),
        right=int(line.right[0]),
        share=float(line.share[0]),
    )


def hull(pass_1: Floats, pass_k: Floats) -> list[int]:
    """The corners of the line from left to right, as indices into the means ``pass_1`` and ``pass_k`` (T,).

    The leftmost corner has the largest Pass@k. To its left the line is horizontal.
    """
    corners: list[int] = []
    for index in sorted(range(len(pass_1)), key=lambda t: (-pass_1[t], -pass_k[t])):  # from the right, Pass@k must rise
        if corners and pass_k[index] <= pass_k[corners[-1]]:
            continue
        while len(corners) > 1 and _is_below(pass_1, pass_k, corners[-2], corners[-1], index):
            corners.pop()
        corners.append(index)
    return corners[::-1]


def _is_below(pass_1: Floats, pass_k: Floats, right: int, middle: int, left: int) -> bool:
    """Whether the middle point is on or below the segment between the others."""
    across = (pass_1[right] - pass_1[left]) * (pass_k[middle] - pass_k[left])
    return bool(across <= (pass_1[middle] - pass_1[left]) * (pass_k[right] - pass_k[left]))


def _check(base_pass_1: Floats, base_pass_k: Floats, pass_1: Floats, pass_k: Floats, greedy: Floats) -> None:
    for name, one, other in (
        ("the base", base_pass_1, base_pass_k),
        ("the policy", pass_1, pass_k),
        ("the greedy base", greedy, greedy),
    ):
        if one.ndim != 2 or one.shape != other.shape or (one is not other and 0 in one.shape):
            raise ValueError(f"{name}: Pass@1 {one.shape} and Pass@k {other.shape} must be equal 2-D shapes, not empty")
        if not all(((values >= 0) & (values <= 1)).all() for values in (one, other)):  # also false for NaN
            raise ValueError(f"{name}: Pass@1 and Pass@k must lie from 0 to 1")
    if len({base_pass_1.shape[1], pass_1.shape[1], greedy.shape[1]}) > 1:
        raise ValueError("the base and the policy must have the same problems")


def _line_at(pass_1: Floats, pass_k: Floats, x: Floats) -> _Line:
    """The largest Pass@k of mixtures of temperatures with a Pass@1 of at least x.

    To the right of all temperatures the last segment is extrapolated.

    Args:
        pass_1, pass_k: (T, B) means of the temperatures in each draw.
        x: (B,) the policy's Pass@1.
    """
    temperatures, draws = pass_1.shape
    rightmost = pass_1.argmax(axis=0)
    within = np.minimum(x, pass_1.max(axis=0))
    past = x > within
    reachable = np.where(pass_1 >= within, pass_k, -np.inf)  # (T, B) by one temperature alone
    right = reachable.argmax(axis=0)
    value, left = reachable[right, np.arange(draws)], right.copy()
    share = np.ones(draws)
    for one in range(temperatures):
        for other in range(temperatures):
            ends_here = np.where(past, rightmost == other, within <= pass_1[other])
            is_segment = ends_here & (pass_1[one] < np.minimum(within, pass_1[other])) & (pass_k[one] > pass_k[other])
            if not is_segment.any():
                continue
            length = np.where(is_segment, pass_1[other] - pass_1[one], 1.0)
            weight = (x - pass_1[one]) / length
            mixed = pass_k[one] + weight * (pass_k[other] - pass_k[one])
            # The line is the upper envelope of all segments; extrapolated, that segment is the lowest.
            replaces = is_segment & np.where(past, mixed < value - _ROUNDING, mixed > value + _ROUNDING)
            value, share = np.where(replaces, mixed, value), np.where(replaces, weight, share)
            left, right = np.where(replaces, one, left), np.where(replaces, other, right)
    return _Line(value, left, right, share)


def _heights_and_margins(means: Floats, temperatures: int) -> tuple[Floats, Floats]:
    """Height and margin in each draw, (B,).

    Args:
        means: (K, B) rows: Pass@1 at the line's temperatures, greedy Pass@1, Pass@k at the line's temperatures, the
            policy's Pass@1, the policy's Pass@k.
        temperatures: how many temperatures the line has.
    """
    base_1, base_k = means[: -2 - temperatures], means[-2 - temperatures : -2]
    x, y = means[-2], means[-1]
    return y - _line_at(base_1[:temperatures], base_k, x).value, x - base_1.max(axis=0)


def _draw_heights_and_margins(columns: Floats, temperatures: int, resamples: int, seed: int) -> tuple[Floats, Floats]:
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


def _draw_seed_errors(pass_1: Floats, pass_k: Floats, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Errors of the means of Pass@1 and Pass@k, (S, P) each, by the draw of seeds: (resamples,) each.

    Bivariate Student's t. Its covariance is that of the seed means minus the part of the interaction of seeds and
    problems, which the draws of problems already contain (Searle, Casella & McCulloch 1992, section 4.3).
    """
    values = np.stack([pass_1, pass_k])
    _, seeds, problems = values.shape
    seed_means = values.mean(axis=2)
    grand_means = values.mean(axis=(1, 2), keepdims=True)
    residuals = values - seed_means[:, :, None] - values.mean(axis=1, keepdims=True) + grand_means
    flat = residuals.reshape(2, -1)
    interaction = flat @ flat.T / ((seeds - 1) * max(1, problems - 1)) / (seeds * problems)
    sizes, directions = np.linalg.eigh(np.cov(seed_means) / seeds - interaction)
    factor = directions * np.sqrt(np.maximum(sizes, 0.0))
    random = np.random.default_rng([seed, 1])
    scale = np.sqrt((seeds - 1) / random.chisquare(seeds - 1, resamples))
    errors_1, errors_k = factor @ random.standard_normal((2, resamples)) * scale
    return errors_1, errors_k


def _interval(value: float, draws: Floats) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975)).tolist()
    return Interval(value, low, high)
