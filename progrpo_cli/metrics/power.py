"""How many seeds and problems would show a difference: from the variances that the runs at hand have.

A method's value of seed s on problem p is taken as its mean + seed + problem + both, for two methods on the same
problems. The mean difference of S seeds each over P problems then has the variance

    problem / P + seed / S + both / (S P)

where ``problem`` is the variance over problems of the true difference and ``seed`` and ``both`` are sums over the two
methods. The three are estimated by the mean squares of the crossed layout (Searle, Casella & McCulloch 1992, section
4.3), as the intervals are. A difference D is shown with 80 % where

    E[ Phi((D - c) / sqrt(variance)) ] = 0.8,    c^2 = (z_0.975 e_problems)^2 + (t_0.975 e_seeds)^2

with ``c`` about half the interval's width. With few seeds it varies between studies, since the seeds' standard error
``e_seeds`` and Welch's degrees of freedom of ``t`` are estimated from them: the mean is taken over 1000 draws of that.
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
    """Variances of a paired difference, in the squared unit of the metric."""

    problem: float
    seed: float | None
    """Of both methods together; None: unknown, since one of them has one seed."""
    both: float
    """Of the interaction and the sampling noise. With one seed it cannot be told from ``problem``, which holds it."""
    methods: int = 2
    """How many of the two have seeds: one where the other is a given policy."""


def estimate_components(one: Floats, other: Floats, *, policies: tuple[bool, bool] = (False, False)) -> Components:
    """The variance components of the difference of two methods, (S, P) each on the same problems.

    Args:
        one, other: S may differ.
        policies: whether each is one given policy rather than a method: then it has no variance of seeds.
    """
    parts = [_of_method(values) for values in (one, other)]
    problem = float((one.mean(axis=0) - other.mean(axis=0)).var(ddof=1))
    problem -= sum(both / len(values) for (_, both), values in zip(parts, (one, other), strict=True))
    unknown = any(len(values) == 1 and not given for values, given in zip((one, other), policies, strict=True))
    seed = None if unknown else sum(seed for seed, _ in parts)
    return Components(max(0.0, problem), seed, sum(both for _, both in parts), 2 - sum(policies))


def needed_seeds(found: Components, difference: float, problems: int) -> int | None:
    """The least seeds a method that show the difference on so many problems with 80 %; None: more than 100.

    Raises:
        ValueError: the seeds' part is unknown.
    """
    if found.seed is None:
        raise ValueError("with one seed a method nothing is known of how seeds differ")
    return _least(lambda seeds: detectable_difference(found, seeds, problems) <= difference, 2, MAX_SEEDS)


def needed_problems(found: Components, difference: float, seeds: int) -> int | None:
    """The least problems that show the difference with so many seeds a method with 80 %; None: more than 100,000.

    Where the seeds' part is unknown the answer is for the policies at hand, and ``seeds`` is not looked at.
    """
    return _least(lambda problems: detectable_difference(found, seeds, problems) <= difference, 2, MAX_PROBLEMS)


def detectable_difference(found: Components, seeds: int, problems: int) -> float:
    """The least difference that so many seeds a method and problems show with 80 %.

    Where the seeds' part is unknown it is that of the policies at hand.
    """
    if found.seed is None or found.methods == 0:
        error = math.sqrt((found.problem + found.both) / problems)
        return (_normal(1 - LEVEL / 2) + _normal(POWER)) * error
    of_problems = found.problem / problems + found.both / (seeds * problems)
    error = math.sqrt(of_problems + found.seed / seeds)
    if error == 0:
        return 0.0
    # What would be estimated: the variance of each method's S means, less the part of the interaction.
    chi_squared = _chi_squared(found.methods, seeds - 1)
    estimated = (found.seed + found.both / problems) / found.methods * chi_squared / (seeds - 1)
    variances = np.maximum(0.0, estimated - found.both / problems / found.methods) / seeds
    total = variances.sum(axis=0)
    squares = (variances**2).sum(axis=0) / (seeds - 1)
    df = np.divide(total**2, squares, out=np.full(DRAWS, seeds - 1.0), where=squares > 0)
    half = np.sqrt((_normal(1 - LEVEL / 2) ** 2) * of_problems + np.interp(df, *_quantiles(seeds - 1)) ** 2 * total)
    low, high = 0.0, float(half.max()) + 3 * error
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if float(_below((middle - half) / error).mean()) < POWER else (low, middle)
    return high


@lru_cache(maxsize=64)
def _chi_squared(methods: int, df: int) -> Floats:
    return np.random.default_rng([methods, df]).chisquare(df, size=(methods, DRAWS))


@lru_cache(maxsize=256)
def _quantiles(df: int) -> tuple[Floats, Floats]:
    """Student's t at the test's level for degrees of freedom from those of one method to those of two."""
    grid = np.linspace(df, 2 * df, 9)
    return grid, np.array([quantile(1 - LEVEL / 2, float(each)) for each in grid])


def _normal(level: float) -> float:
    return NormalDist().inv_cdf(level)


def _below(z: Floats) -> Floats:
    """The normal distribution's cumulative chance, within 1e-3 (Bowling et al., J. Ind. Eng. Manag. 2, 2009)."""
    z = np.clip(z, -8.0, 8.0)  # beyond, nothing is left and the exponential overflows
    return 1 / (1 + np.exp(-(0.07056 * z**3 + 1.5976 * z)))


def _of_method(values: Floats) -> tuple[float, float]:
    """The variances of seeds and of seeds x problems of (S, P) values; with one seed nothing is known: 0."""
    seeds, problems = values.shape
    if seeds == 1:
        return 0.0, 0.0
    between_seeds, both = seed_variances(values)
    return max(0.0, between_seeds - both / problems), both


def _least(shows: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least count from ``low`` to ``high`` that is enough, by bisection: more never shows less."""
    if not shows(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle + 1, high)
    return low
