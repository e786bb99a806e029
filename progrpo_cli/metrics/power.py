"""How many seeds and problems would detect a difference, from the variances of existing runs.

A method's value for seed s on problem p is modelled as mean + seed + problem + interaction, for two methods on the same
problems. The mean difference of S seeds each over P problems then has the variance

    problem / P + seed / S + interaction / (S P)

where ``problem`` is the variance over problems of the true difference, and ``seed`` and ``interaction`` are sums over
the two methods. The three are estimated from the mean squares of the crossed layout (Searle, Casella & McCulloch 1992,
section 4.3), as for the intervals. A difference D is detected with 80 % power where

    E[ Phi((D - c) / sqrt(variance)) ] = 0.8,    c^2 = (z_0.975 e_problems)^2 + (t_0.975 e_seeds)^2

with ``c`` about half the width of the interval. With few seeds ``c`` varies between studies, because the seeds'
standard error ``e_seeds`` and Welch's degrees of freedom of ``t`` are estimated from them; the expectation is over 1000
draws of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from progrpo_cli.metrics.bootstrap import seed_variances
from progrpo_cli.metrics.student import quantile

Floats = npt.NDArray[np.float64]

POWER = 0.8
LEVEL = 0.05
DRAWS = 1000
MAX_SEEDS = 100
MAX_PROBLEMS = 100_000


@dataclass(frozen=True)
class Components:
    """Variance components of a paired difference, in the squared unit of the metric."""

    problem: float
    seed: float | None
    """Sum over both methods. None if it is unknown because a method has one seed."""
    interaction: float
    """Interaction of seeds and problems, including sampling noise. With one seed it is part of ``problem``."""
    methods: int = 2
    """How many of the two have seeds: one if the other is a given policy."""


def estimate_components(one: Floats, other: Floats, *, policies: tuple[bool, bool] = (False, False)) -> Components:
    """Estimate the variance components of the difference of two methods on the same problems.

    Args:
        one, other: (S, P) each; S may differ.
        policies: whether each is one given policy rather than a method. A policy has no variance between seeds.
    """
    parts = [_seed_components(values) for values in (one, other)]
    problem = float((one.mean(axis=0) - other.mean(axis=0)).var(ddof=1))
    problem -= sum(interaction / len(values) for (_, interaction), values in zip(parts, (one, other), strict=True))
    unknown = any(len(values) == 1 and not given for values, given in zip((one, other), policies, strict=True))
    seed = None if unknown else sum(seed for seed, _ in parts)
    return Components(max(0.0, problem), seed, sum(interaction for _, interaction in parts), 2 - sum(policies))


def needed_seeds(components: Components, difference: float, problems: int) -> int | None:
    """The smallest number of seeds per method that detects the difference with 80 % power; None if above 100.

    Raises:
        ValueError: the variance between seeds is unknown.
    """
    if components.seed is None:
        raise ValueError("the variance between seeds is unknown: a method has one seed")
    return _smallest(lambda seeds: detectable_difference(components, seeds, problems) <= difference, 2, MAX_SEEDS)


def needed_problems(components: Components, difference: float, seeds: int) -> int | None:
    """The smallest number of problems that detects the difference with 80 % power; None if above 100,000.

    If the variance between seeds is unknown, the answer is about the given policies and ``seeds`` is ignored.
    """
    return _smallest(lambda problems: detectable_difference(components, seeds, problems) <= difference, 2, MAX_PROBLEMS)


def detectable_difference(components: Components, seeds: int, problems: int) -> float:
    """The smallest difference that is detected with 80 % power, given seeds per method and problems.

    If the variance between seeds is unknown, the difference is that of the given policies.
    """
    if components.seed is None or components.methods == 0:
        error = math.sqrt((components.problem + components.interaction) / problems)
        return (_normal_quantile(1 - LEVEL / 2) + _normal_quantile(POWER)) * error
    problem_variance = components.problem / problems + components.interaction / (seeds * problems)
    error = math.sqrt(problem_variance + components.seed / seeds)
    if error == 0:
        return 0.0
    # What a study would estimate: the variance of each method's S means, less the part of the interaction.
    chi_squared = _chi_squared(components.methods, seeds - 1)
    estimated = (components.seed + components.interaction / problems) / components.methods * chi_squared / (seeds - 1)
    variances = np.maximum(0.0, estimated - components.interaction / problems / components.methods) / seeds
    total = variances.sum(axis=0)
    squares = (variances**2).sum(axis=0) / (seeds - 1)
    df = np.divide(total**2, squares, out=np.full(DRAWS, seeds - 1.0), where=squares > 0)
    half_width = np.sqrt(
        (_normal_quantile(1 - LEVEL / 2) ** 2) * problem_variance
        + np.interp(df, *_student_quantiles(seeds - 1)) ** 2 * total
    )
    low, high = 0.0, float(half_width.max()) + 3 * error
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _normal_cdf((middle - half_width) / error).mean() < POWER else (low, middle)
    return high


@lru_cache(maxsize=64)
def _chi_squared(methods: int, df: int) -> Floats:
    return np.random.default_rng([methods, df]).chisquare(df, size=(methods, DRAWS))


@lru_cache(maxsize=256)
def _student_quantiles(df: int) -> tuple[Floats, Floats]:
    """Degrees of freedom between those of one method and of two, and the quantiles of Student's t at ``LEVEL``."""
    grid = np.linspace(df, 2 * df, 9)
    return grid, np.array([quantile(1 - LEVEL / 2, float(point)) for point in grid])


def _normal_quantile(level: float) -> float:
    return NormalDist().inv_cdf(level)


def _normal_cdf(z: Floats) -> Floats:
    """The normal distribution function, within 1e-3 (Bowling et al., J. Ind. Eng. Manag. 2, 2009)."""
    z = np.clip(z, -8.0, 8.0)  # beyond, the result is 0 or 1 and the exponential overflows
    return 1 / (1 + np.exp(-(0.07056 * z**3 + 1.5976 * z)))


def _seed_components(values: Floats) -> tuple[float, float]:
    """The variances of seeds and of the interaction of ``values`` (S, P); both 0 with one seed."""
    seeds, problems = values.shape
    if seeds == 1:
        return 0.0, 0.0
    between_seeds, interaction = seed_variances(values)
    return max(0.0, between_seeds - interaction / problems), interaction


def _smallest(is_enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest sufficient count from ``low`` to ``high``, by bisection; None if ``high`` is not enough."""
    if not is_enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low
