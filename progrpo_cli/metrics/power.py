"""How many seeds and problems would show a difference: from the variances that the runs at hand have.

A method's value of seed s on problem p is taken as its mean + seed + problem + both, for two methods on the same
problems. The mean difference of S seeds each over P problems then has the variance

    problem / P + seed / S + both / (S P)

where ``problem`` is the variance over problems of the true difference and ``seed`` and ``both`` are sums over the two
methods. The three are estimated by the mean squares of the crossed layout (Searle, Casella & McCulloch 1992, section
4.3), as the intervals are. A difference D is shown with 80 % where

    D >= (t_0.975 + t_0.8) sqrt(variance)

with Student's t of the degrees of freedom of Satterthwaite for a sum of problems' and seeds' parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from progrpo_cli.metrics.student import quantile

Floats = npt.NDArray[np.float64]

POWER = 0.8
LEVEL = 0.05
MOST_SEEDS = 100
MOST_PROBLEMS = 100_000


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


def components(one: Floats, other: Floats, *, policies: tuple[bool, bool] = (False, False)) -> Components:
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
    return _least(lambda seeds: least_difference(found, seeds, problems) <= difference, 2, MOST_SEEDS)


def needed_problems(found: Components, difference: float, seeds: int) -> int | None:
    """The least problems that show the difference with so many seeds a method with 80 %; None: more than 100,000.

    Where the seeds' part is unknown the answer is for the policies at hand, and ``seeds`` is not looked at.
    """
    return _least(lambda problems: least_difference(found, seeds, problems) <= difference, 2, MOST_PROBLEMS)


def least_difference(found: Components, seeds: int, problems: int) -> float:
    """The least difference that so many seeds a method and problems show with 80 %.

    Where the seeds' part is unknown it is that of the policies at hand.
    """
    if found.seed is None:
        of_problems, of_seeds, freedom_of_seeds = (found.problem + found.both) / problems, 0.0, 1
    else:
        of_problems = found.problem / problems + found.both / (seeds * problems)
        of_seeds, freedom_of_seeds = found.seed / seeds, max(1, found.methods * (seeds - 1))
    variance = of_problems + of_seeds
    if variance == 0:
        return 0.0
    freedom = variance**2 / (of_problems**2 / (problems - 1) + of_seeds**2 / freedom_of_seeds)
    return (quantile(1 - LEVEL / 2, freedom) + quantile(POWER, freedom)) * math.sqrt(variance)


def _of_method(values: Floats) -> tuple[float, float]:
    """The variances of seeds and of seeds x problems of (S, P) values; with one seed nothing is known: 0."""
    seeds, problems = values.shape
    if seeds == 1:
        return 0.0, 0.0
    of_seeds = values.mean(axis=1)
    residuals = values - of_seeds[:, None] - values.mean(axis=0) + values.mean()
    both = float((residuals**2).sum()) / ((seeds - 1) * max(1, problems - 1))
    return max(0.0, float(of_seeds.var(ddof=1)) - both / problems), both


def _least(shows: Callable[[int], bool], low: int, high: int) -> int | None:
    """The least count from ``low`` to ``high`` that is enough, by bisection: more never shows less."""
    if not shows(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle + 1, high)
    return low
