"""95 % bootstrap intervals: over problems for one run, crossed over seeds and problems for several.

Seeds and problems are crossed: every seed answers the same problems. Resampling problems within each seed would treat
one hard problem as many, and measured coverage was 74 to 80 %; so one draw of problems serves all seeds,
differences are paired on each problem, and seeds are drawn on their own.

Plain percentiles of such draws are too narrow where seeds are few and differ, and where a few problems carry the mean.
So the draws of problems are those of :mod:`progrpo_cli.metrics.resampling`, one rule from the middle to the edges, and
a draw of seeds is one of Student's t: see :func:`crossed_bootstrap`. docs/statistics.md has the measured coverage.
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
"""From so many seeds on intervals about a method hold what they promise (docs/statistics.md)."""

Bounds = tuple[float, float]
PROBABILITY: Bounds = (0.0, 1.0)
"""The bounds of Pass@k and of every share."""


def metric_bounds(metric: str, n: int) -> Bounds | None:
    """What a problem's value of a metric cannot leave; None: nothing is known.

    Args:
        metric: ``pass@K``, ``distinct_correct`` or another.
        n: samples a problem; of several counts the largest.
    """
    if metric == "distinct_correct":
        return 0.0, float(n)
    return PROBABILITY if metric.startswith("pass@") else None


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval, all in the unit of the data."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CrossedResult:
    """What :func:`crossed_bootstrap` gives for one group."""

    mean: Interval
    difference: Interval | None
    """Group minus baseline, paired; None for the baseline itself and where there is no baseline."""
    p: float | None
    """Two-sided p of no difference, see :func:`p_value_method`; None where there is no difference, and where one of the two
    is a method with one seed: nothing is tested about methods then."""


def mean_interval_method(resamples: int = RESAMPLES, seed: int = SEED) -> str:
    """How :func:`mean_interval` made an interval, for the files that hold it."""
    return f"studentised bootstrap over problems, 95 %, {resamples} resamples, seed {seed}"


def crossed_bootstrap_method(resamples: int = RESAMPLES, seed: int = SEED) -> str:
    """How :func:`crossed_bootstrap` made an interval, for the files that hold it."""
    return (
        "studentised bootstrap, crossed (one draw of problems for all rows x a draw of seeds for each row), "
        f"95 %, {resamples} resamples, seed {seed}"
    )


def p_value_method() -> str:
    """How :func:`crossed_bootstrap` made a p, for the files that hold it."""
    return (
        "crossed-bootstrap test: the level at which the interval of the paired difference would just touch 0, "
        f"by Student's t beyond the draws; at least {MIN_P:g}, printed as p <="
    )


def mean_interval(
    per_problem: Floats, *, bounds: Bounds | None = None, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The mean over problems with its interval.

    Args:
        per_problem: (P,) one value a problem, finite.
        bounds: what a problem's value cannot leave, e.g. :data:`PROBABILITY`; with them an interval is sensible at its
            edges: 0 of 100 problems solved gives [0, 0.033], not [0, 0].

    Raises:
        ValueError: no problems, another shape, values that are not finite or out of bounds.
    """
    limits = {} if bounds is None else {"": bounds}
    return mean_intervals({"": per_problem}, bounds=limits, resamples=resamples, seed=seed)[""]


def mean_intervals(
    metrics: Mapping[str, Floats], *, bounds: Mapping[str, Bounds], resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """:func:`mean_interval` of several metrics of the same problems, which are drawn once for all of them.

    Args:
        metrics: for each name (P,) one value a problem, finite.
        bounds: for those metrics that have bounds.

    Raises:
        ValueError: no problems, shapes that differ or are others, values that are not finite or out of bounds.
    """
    for name, per_problem in metrics.items():
        if per_problem.ndim != 1:
            raise ValueError(f"one value a problem is needed, (P,), not {per_problem.shape}")
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

    The error of a mean is taken to be two independent parts, each drawn with its own standard error:

    - problems: draws of the mean over seeds; of a difference those of the differences on each problem, which pairs
      them: see :func:`progrpo_cli.metrics.resampling.draw_interval_ends`;
    - seeds: Student's t with S - 1 degrees of freedom, for each group on its own (methods share problems, not training
      randomness), and for a difference with those of Welch and Satterthwaite. Its squared standard error is that of the
      S seeds' means, less the part of the interaction of seeds and problems, which the first part holds already (the
      unbiased estimate for two crossed random factors: Searle, Casella & McCulloch 1992, section 4.3).

    With one seed only problems are resampled, and the interval is about that policy. Nothing is tested about a method
    with one seed.

    Args:
        groups: for each name (S, P), a row a seed and a column a problem: the same problems in the same order in all
            groups, while S may differ.
        bounds: what a value cannot leave; without them nothing is known of values that were not seen.
        baseline: the group that differences are taken to.
        policies: groups that are one given policy each, such as the base, and no method that could have other seeds:
            these are tested with one seed.

    Returns:
        For each name its mean with interval and, if there is a baseline, the difference to it.

    Raises:
        ValueError: no groups, shapes that differ in P or are empty, values that are not finite or out of bounds,
            unknown baseline.
    """
    _check(groups, baseline, bounds)
    averaged = {name: values.mean(axis=0) for name, values in groups.items()}
    spreads = {name: _of_seeds(values) for name, values in groups.items()}
    of_problems = dict(averaged)
    differing = [name for name in groups if baseline is not None and name != baseline]
    if baseline is not None:
        of_problems |= {f"{name} - ": averaged[name] - averaged[baseline] for name in differing}
    widest = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    limits = [bounds] * len(groups) + [widest] * len(differing)
    ends = draw_interval_ends(np.stack(list(of_problems.values())), limits, resamples=resamples, seed=seed)
    drawn = dict(zip(of_problems, zip(*ends, strict=True), strict=True))
    tested = {name for name, values in groups.items() if len(values) > 1 or name in policies}
    results: dict[str, CrossedResult] = {}
    for name in groups:
        mean, _ = _with_seeds(averaged[name], drawn[name], spreads[name], seed, bounds)
        difference, p = None, None
        if name in differing and baseline is not None:
            paired, both = f"{name} - ", _welch(spreads[name], spreads[baseline])
            difference, (lows, highs) = _with_seeds(of_problems[paired], drawn[paired], both, seed, widest)
            if tested >= {name, baseline}:
                p = two_sided_p(lows, highs, drawn[paired], of_problems[paired], widest, both)
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
    """Of (S, P) values, S at least 2: the variance between the seeds' means, and that of seeds x problems.

    The second is the residual mean square of the crossed layout (Searle, Casella & McCulloch 1992, section 4.3); a P-th
    of it is in the first.
    """
    seeds, problems = values.shape
    of_seeds = values.mean(axis=1)
    residuals = values - of_seeds[:, None] - values.mean(axis=0) + values.mean()
    interaction = float((residuals**2).sum()) / ((seeds - 1) * max(1, problems - 1))
    return float(of_seeds.var(ddof=1)), interaction


def _of_seeds(values: Floats) -> tuple[float, float]:
    """The seeds' part of the error of the mean of ``values`` (S, P): standard error, 0 with one seed, and freedom."""
    seeds = len(values)
    if seeds == 1:
        return 0.0, 1.0
    between_seeds, interaction = seed_variances(values)
    variance = between_seeds / seeds - interaction / values.size
    return math.sqrt(max(0.0, variance)), seeds - 1.0


def _welch(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """The seeds' part of a difference: standard error, and the degrees of freedom of Welch and Satterthwaite."""
    variances = [error**2 for error, _ in (one, other)]
    total = sum(variances)
    if total == 0:
        return 0.0, 1.0
    shares = [variance / total for variance in variances]
    of_each = (share**2 / df for share, (_, df) in zip(shares, (one, other), strict=True))
    return math.sqrt(total), 1 / sum(of_each)


def _with_seeds(
    of_problems: Floats,
    drawn: tuple[Floats, Floats],
    spread: tuple[float, float],
    seed: int,
    bounds: Bounds | None,
) -> tuple[Interval, tuple[Floats, Floats]]:
    """The interval of the mean of ``of_problems`` (P,), with draws of both ends from problems and seeds together."""
    error, df = spread
    lows, highs = drawn
    if error > 0:
        by_seeds = error * _student(seed, df, len(lows))
        lows, highs = lows - by_seeds, highs - by_seeds
    return _interval(float(of_problems.mean()), lows, highs, bounds), (lows, highs)


@lru_cache(maxsize=256)  # of 80 kB: the draws are the same for all groups of as many seeds
def _student(seed: int, df: float, resamples: int) -> Floats:
    drawn = np.random.default_rng([seed, 1]).standard_t(df, size=resamples)
    drawn.flags.writeable = False
    return drawn


def _interval(value: float, lows: Floats, highs: Floats, bounds: Bounds | None) -> Interval:
    """From draws of both ends."""
    low, high = (float(np.quantile(*end)) for end in zip((lows, highs), _QUANTILES, strict=True))
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(value, low, high)
