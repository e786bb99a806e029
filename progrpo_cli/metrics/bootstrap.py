"""95 % bootstrap intervals: over problems for one run, crossed over seeds and problems for several runs.

Seeds and problems are crossed: every seed answers the same problems. All seeds therefore share one draw of problems,
differences are paired on each problem, and seeds are drawn separately. Resampling problems within each seed would count
one hard problem many times; its measured coverage was 74 to 80 %.

Plain percentile intervals are too narrow when there are few seeds that differ, and when a few problems carry the mean.
Problems are therefore drawn by :mod:`progrpo_cli.metrics.resampling`, and seeds from Student's t distribution (see
:func:`crossed_bootstrap`). docs/statistics.md reports the measured coverage.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from progrpo_cli.metrics.resampling import draw_interval_ends
from progrpo_cli.metrics.tail import MIN_P, two_sided_p

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
SEED = 0
_QUANTILES = (0.025, 0.975)
ENOUGH_SEEDS = 3
"""The smallest number of seeds whose intervals about a method reach 95 % coverage (docs/statistics.md)."""

Bounds = tuple[float, float]
PROBABILITY: Bounds = (0.0, 1.0)
"""The bounds of Pass@k and of shares."""


def metric_bounds(metric: str, n: int) -> Bounds | None:
    """The smallest and largest possible value of a metric on one problem, or None if it is not bounded.

    Args:
        metric: ``pass@K``, ``distinct_correct`` or another metric.
        n: samples per problem; the largest number if it differs between evaluations.
    """
    if metric == "distinct_correct":
        return 0.0, float(n)
    return PROBABILITY if metric.startswith("pass@") else None


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its 95 % interval, in the unit of the data."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CrossedResult:
    """The result of :func:`crossed_bootstrap` for one group."""

    mean: Interval
    difference: Interval | None
    """Group minus baseline, paired. None for the baseline itself and if there is no baseline."""
    p: float | None
    """Two-sided p value of no difference, see :func:`p_value_method`. None if there is no difference, or if one of the
    two groups is a method with one seed: methods are not tested then."""


def mean_interval_method(resamples: int = RESAMPLES, seed: int = SEED) -> str:
    """A description of :func:`mean_interval` for the files that store its intervals."""
    return f"studentised bootstrap over problems, 95 %, {resamples} resamples, seed {seed}"


def crossed_bootstrap_method(resamples: int = RESAMPLES, seed: int = SEED) -> str:
    """A description of :func:`crossed_bootstrap` for the files that store its intervals."""
    return (
        "studentised bootstrap, crossed (one draw of problems for all rows x a draw of seeds for each row), "
        f"95 %, {resamples} resamples, seed {seed}"
    )


def p_value_method() -> str:
    """A description of the p values of :func:`crossed_bootstrap` for the files that store them."""
    return (
        "crossed-bootstrap test: the level at which the interval of the paired difference would just touch 0, "
        f"continued by Student's t beyond the draws; values below {MIN_P:g} are printed as p <= {MIN_P:g}"
    )


def mean_interval(
    per_problem: Floats, *, bounds: Bounds | None = None, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The mean over problems with its interval.

    Args:
        per_problem: (P,) one finite value per problem.
        bounds: the smallest and largest possible value, e.g. :data:`PROBABILITY`. They make intervals sensible near the
            bounds: 0 of 100 problems solved gives [0, 0.033], not [0, 0].

    Raises:
        ValueError: ``per_problem`` is empty, has another shape, or holds values that are not finite or out of bounds.
    """
    limits = {} if bounds is None else {"": bounds}
    return mean_intervals({"": per_problem}, bounds=limits, resamples=resamples, seed=seed)[""]


def mean_intervals(
    metrics: Mapping[str, Floats], *, bounds: Mapping[str, Bounds], resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """:func:`mean_interval` of several metrics on the same problems; all metrics share one draw of problems.

    Args:
        metrics: for each name (P,) one finite value per problem.
        bounds: the bounds of the metrics that have any.

    Raises:
        ValueError: values are empty, not finite or out of bounds, or their shapes are wrong or differ.
    """
    for name, per_problem in metrics.items():
        if per_problem.ndim != 1:
            raise ValueError(f"expected one value per problem, (P,), not {per_problem.shape}")
        _check({name: per_problem[None, :]}, None, bounds.get(name))
    limits = [bounds.get(name) for name in metrics]
    lows, highs = draw_interval_ends(np.stack(list(metrics.values())), limits, resamples=resamples, seed=seed)
    return {
        name: _interval(float(per_problem.mean()), lows[row], highs[row], limits[row])
        for row, (name, per_problem) in enumerate(metrics.items())
    }


def crossed_bootstrap(
    groups: Mapping[str, Floats],
    *,
    bounds: Bounds | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    baseline: str | None = None,
    policies: Collection[str] = (),
) -> dict[str, CrossedResult]:
    """Means over seeds and problems with their intervals, and paired differences to a baseline.

    The error of a mean has two independent parts, each drawn with its own standard error:

    - problems: draws of the mean over seeds, or of the differences on each problem, which pairs the two groups; see
      :func:`progrpo_cli.metrics.resampling.draw_interval_ends`;
    - seeds: Student's t with S - 1 degrees of freedom, separately for each group, because methods share problems but
      not the randomness of training; a difference has Welch and Satterthwaite's degrees of freedom. The squared
      standard error is that of the S seed means minus the part of the interaction of seeds and problems, which is
      already contained in the first part (the unbiased estimate for two crossed random factors: Searle, Casella &
      McCulloch 1992, section 4.3).

    With one seed only problems are resampled: the interval is about that policy, and the method is not tested.

    Args:
        groups: for each name (S, P), one row per seed and one column per problem. All groups have the same problems in
            the same order; S may differ.
        bounds: the smallest and largest possible value of one problem; None if values are unbounded.
        baseline: the group that is subtracted from the others.
        policies: groups that are one given policy, such as the base, rather than a method that could have more seeds.
            They are tested although they have one seed.

    Returns:
        For each name its mean with interval and, if there is a baseline, the difference to it.

    Raises:
        ValueError: no groups, empty or differing shapes, values that are not finite or out of bounds, or an unknown
            baseline.
    """
    _check(groups, baseline, bounds)
    seed_means = {name: values.mean(axis=0) for name, values in groups.items()}
    seed_errors = {name: _seed_error(values) for name, values in groups.items()}
    per_problem = dict(seed_means)
    differing = [name for name in groups if baseline is not None and name != baseline]
    if baseline is not None:
        per_problem |= {f"{name} - ": seed_means[name] - seed_means[baseline] for name in differing}
    widest = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    limits = [bounds] * len(groups) + [widest] * len(differing)
    ends = draw_interval_ends(np.stack(list(per_problem.values())), limits, resamples=resamples, seed=seed)
    draws = dict(zip(per_problem, zip(*ends, strict=True), strict=True))
    testable = {name for name, values in groups.items() if len(values) > 1 or name in policies}
    results: dict[str, CrossedResult] = {}
    for name in groups:
        mean, _ = _add_seed_error(seed_means[name], draws[name], seed_errors[name], seed, bounds)
        difference, p = None, None
        if name in differing and baseline is not None:
            pair, error = f"{name} - ", _welch(seed_errors[name], seed_errors[baseline])
            difference, (lows, highs) = _add_seed_error(per_problem[pair], draws[pair], error, seed, widest)
            if testable >= {name, baseline}:
                p = two_sided_p(lows, highs, draws[pair], per_problem[pair], widest, error)
        results[name] = CrossedResult(mean, difference, p)
    return results


def _check(groups: Mapping[str, Floats], baseline: str | None, bounds: Bounds | None) -> None:
    if not groups:
        raise ValueError("no groups to compare")
    for name, values in groups.items():
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(f"{name!r}: values must be (S, P) with S, P >= 1, not {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name!r}: values must be finite")
        if bounds is not None and (values.min() < bounds[0] or values.max() > bounds[1]):
            raise ValueError(f"{name!r}: values must lie from {bounds[0]} to {bounds[1]}")
    if len({values.shape[1] for values in groups.values()}) > 1:
        raise ValueError("all groups must have the same problems")
    if baseline is not None and baseline not in groups:
        raise ValueError(f"baseline {baseline!r} is not among the groups")


def seed_variances(values: Floats) -> tuple[float, float]:
    """The variance between seed means, and that of the interaction of seeds and problems.

    The second is the residual mean square of the crossed layout (Searle, Casella & McCulloch 1992, section 4.3). The
    first contains 1 / P of it.

    Args:
        values: (S, P) with S at least 2.
    """
    seeds, problems = values.shape
    seed_means = values.mean(axis=1)
    residuals = values - seed_means[:, None] - values.mean(axis=0) + values.mean()
    interaction = float((residuals**2).sum()) / ((seeds - 1) * max(1, problems - 1))
    return float(seed_means.var(ddof=1)), interaction


def _seed_error(values: Floats) -> tuple[float, float]:
    """Standard error (0 with one seed) and degrees of freedom of the seeds' part of the mean of ``values`` (S, P)."""
    seeds = len(values)
    if seeds == 1:
        return 0.0, 1.0
    between_seeds, interaction = seed_variances(values)
    variance = between_seeds / seeds - interaction / values.size
    return math.sqrt(max(0.0, variance)), seeds - 1.0


def _welch(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Standard error and Welch and Satterthwaite's degrees of freedom of the seeds' part of a difference."""
    variances = [error**2 for error, _ in (one, other)]
    total = sum(variances)
    if total == 0:
        return 0.0, 1.0
    shares = [variance / total for variance in variances]
    terms = (share**2 / df for share, (_, df) in zip(shares, (one, other), strict=True))
    return math.sqrt(total), 1 / sum(terms)


def _add_seed_error(
    per_problem: Floats,
    draws: tuple[Floats, Floats],
    seed_error: tuple[float, float],
    seed: int,
    bounds: Bounds | None,
) -> tuple[Interval, tuple[Floats, Floats]]:
    """The interval of the mean of ``per_problem`` (P,), and the draws of its ends with the seeds' error added."""
    error, df = seed_error
    lows, highs = draws
    if error > 0:
        deviations = error * _student_draws(seed, df, len(lows))
        lows, highs = lows - deviations, highs - deviations
    return _interval(float(per_problem.mean()), lows, highs, bounds), (lows, highs)


@lru_cache(maxsize=256)  # 80 kB each; groups with the same number of seeds share their draws
def _student_draws(seed: int, df: float, resamples: int) -> Floats:
    draws = np.random.default_rng([seed, 1]).standard_t(df, size=resamples)
    draws.flags.writeable = False
    return draws


def _interval(value: float, lows: Floats, highs: Floats, bounds: Bounds | None) -> Interval:
    """The interval from the draws of its lower and upper end."""
    low, high = (float(np.quantile(*end)) for end in zip((lows, highs), _QUANTILES, strict=True))
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(value, low, high)
