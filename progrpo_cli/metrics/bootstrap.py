"""95 % bootstrap intervals: over problems for one run, crossed over seeds and problems for several.

Seeds and problems are crossed: every seed answers the same problems. Resampling problems within each seed would treat
one hard problem as many, and measured coverage was 74 to 80 %; so one draw of problems serves all seeds and all
methods, which pairs their differences, and seeds are drawn on their own.

Plain percentiles of such draws are too narrow where seeds are few and differ, and where a few problems carry the mean.
So the draws of problems are studentised, and a draw of seeds is one of Student's t: see :func:`crossed`. Where nearly
all problems have the same value the draws know nothing of what was not seen, and Gaffke's interval for bounded values
takes over: see :func:`_unseen`. docs/statistics.md has the measured coverage.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
SEED = 0
_CHUNK_VALUES = 250_000  # 2 MB of weights at a time, however many problems there are: they stay in the cache
_ROWS_AT_ONCE = 32  # 2.5 MB of draws each, in one product of matrices
_QUANTILES = (0.025, 0.975)
_FEW_PROBLEMS = 10
"""With fewer problems than this off the commonest value, draws say too little: the rule "n p at least 10"."""

_LONGEST = 12.706
"""The longest studentised deviation that counts, in standard errors: Student's t for two values."""

Bounds = tuple[float, float]
PROBABILITY: Bounds = (0.0, 1.0)
"""The bounds of Pass@k and of every share."""


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95 % interval, all in the unit of the data."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Crossed:
    """What :func:`crossed` gives for one group."""

    mean: Interval
    difference: Interval | None
    """Group minus baseline, paired; None for the baseline itself and where there is no baseline."""
    p: float | None
    """Two-sided p of no difference, see :func:`p_method`; None where there is no difference."""


def problems_method(resamples: int = RESAMPLES, seed: int = SEED) -> str:
    """How :func:`over_problems` made an interval, for the files that hold it."""
    return f"studentised bootstrap over problems, 95 %, {resamples} resamples, seed {seed}"


def crossed_method(resamples: int = RESAMPLES, seed: int = SEED) -> str:
    """How :func:`crossed` made an interval, for the files that hold it."""
    return (
        "studentised bootstrap, crossed (one draw of problems for all rows x a draw of seeds for each row), "
        f"95 %, {resamples} resamples, seed {seed}"
    )


def p_method(resamples: int = RESAMPLES) -> str:
    """How :func:`crossed` made a p, for the files that hold it."""
    return (
        "crossed-bootstrap test: the level at which the interval of the paired difference would just touch 0, "
        f"at least {2 / (resamples + 1):.1g}"
    )


def over_problems(
    per_problem: Floats, *, bounds: Bounds | None = None, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The mean over problems with its interval.

    Args:
        per_problem: (P,) one value a problem, finite.
        bounds: what a problem's value cannot leave, e.g. :data:`PROBABILITY`; with them an interval is sensible at its
            edges: 0 of 100 problems solved gives [0, 0.036], not [0, 0].

    Raises:
        ValueError: no problems, another shape, values that are not finite or out of bounds.
    """
    limits = {} if bounds is None else {"": bounds}
    return each_over_problems({"": per_problem}, bounds=limits, resamples=resamples, seed=seed)[""]


def each_over_problems(
    metrics: Mapping[str, Floats], *, bounds: Mapping[str, Bounds], resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """:func:`over_problems` of several metrics of the same problems, which are drawn once for all of them.

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
    drawn = _drawn_problems(np.random.default_rng(seed), np.stack(list(metrics.values())), resamples)
    one_policy = np.zeros(resamples)  # no seeds are drawn
    return {
        name: _interval(per_problem, of_metric, one_policy, bounds.get(name), seed)[0]
        for (name, per_problem), of_metric in zip(metrics.items(), drawn, strict=True)
    }


def crossed(
    groups: Mapping[str, Floats],
    *,
    bounds: Bounds | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    baseline: str | None = None,
) -> dict[str, Crossed]:
    """Means over seeds and problems with their intervals, and paired differences to a baseline.

    The error of a mean is taken to be two independent parts, each drawn with its own standard error:

    - problems: for each resample of the P problems (the same for all groups, which pairs them) the studentised
      deviation of the mean over seeds (Efron & Tibshirani 1993, section 12.5: it knows the skew of few hard problems);
    - seeds: Student's t with S - 1 degrees of freedom, for each group on its own (methods share problems, not training
      randomness). Its squared standard error is that of the S seeds' means, less the part of the interaction of seeds
      and problems, which the first part holds already (the unbiased estimate for two crossed random factors: Searle,
      Casella & McCulloch 1992, section 4.3).

    With one seed only problems are resampled, and the interval is about that policy.

    Args:
        groups: for each name (S, P), a row a seed and a column a problem: the same problems in the same order in all
            groups, while S may differ.
        bounds: what a value cannot leave; without them nothing is known of values that were not seen.
        baseline: the group that differences are taken to.

    Returns:
        For each name its mean with interval and, if there is a baseline, the difference to it.

    Raises:
        ValueError: no groups, shapes that differ in P or are empty, values that are not finite or out of bounds,
            unknown baseline.
    """
    _check(groups, baseline, bounds)
    averaged = {name: values.mean(axis=0) for name, values in groups.items()}
    # A stream for the problems and one for each group: a group's interval does not depend on what it is compared with.
    by_seeds = {
        name: _drawn_seeds((seed, zlib.crc32(name.encode())), values, resamples) for name, values in groups.items()
    }
    of_problems = dict(averaged)
    differing = [name for name in groups if baseline is not None and name != baseline]
    if baseline is not None:
        of_problems |= {f"{name} - ": averaged[name] - averaged[baseline] for name in differing}
    by_problems = _drawn_problems(np.random.default_rng(seed), np.stack(list(of_problems.values())), resamples)
    drawn = dict(zip(of_problems, by_problems, strict=True))
    widest = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    found: dict[str, Crossed] = {}
    for name in groups:
        mean, _ = _interval(averaged[name], drawn[name], by_seeds[name], bounds, seed)
        difference, p = None, None
        if baseline is not None and name != baseline:
            paired = f"{name} - "
            seeds = by_seeds[name] - by_seeds[baseline]
            difference, p = _interval(of_problems[paired], drawn[paired], seeds, widest, seed)
        found[name] = Crossed(mean, difference, p)
    return found


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


def _problem_weights(random: np.random.Generator, problems: int, resamples: int) -> Iterator[Floats]:
    """(B, P) chunks: how often each problem is in each resample."""
    size = max(1, _CHUNK_VALUES // problems)
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = random.integers(problems, size=(count, problems))
        drawn += problems * np.arange(count)[:, None]  # one bincount for all resamples of the chunk
        yield np.bincount(drawn.ravel(), minlength=count * problems).reshape(count, problems).astype(np.float64)


def _drawn_problems(random: np.random.Generator, values: Floats, resamples: int) -> Floats:
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


def _drawn_seeds(stream: tuple[int, int], values: Floats, resamples: int) -> Floats:
    """(resamples,) errors of the mean of ``values`` (S, P) by the draw of seeds; 0 with one seed."""
    seeds, problems = values.shape
    if seeds == 1:
        return np.zeros(resamples)
    of_seeds = values.mean(axis=1)
    residuals = values - of_seeds[:, None] - values.mean(axis=0) + values.mean()
    interaction = float((residuals**2).sum()) / ((seeds - 1) * max(1, problems - 1)) / values.size
    variance = float(of_seeds.var(ddof=1)) / seeds - interaction
    return math.sqrt(max(0.0, variance)) * _student(stream, seeds - 1, resamples)


@lru_cache(maxsize=256)  # of 80 kB: a group's draws are the same for each of its metrics
def _student(stream: tuple[int, int], freedom: int, resamples: int) -> Floats:
    drawn = np.random.default_rng(stream).standard_t(freedom, size=resamples)
    drawn.flags.writeable = False
    return drawn


def _interval(
    of_problems: Floats, by_problems: Floats, by_seeds: Floats, bounds: Bounds | None, seed: int
) -> tuple[Interval, float]:
    """The interval of the mean of ``of_problems`` (P,) from draws of its error, and the level at which it touches 0."""
    value = float(of_problems.mean())
    if bounds is not None and _off_the_commonest(of_problems) < _FEW_PROBLEMS:
        lows, highs = (of_end - by_seeds for of_end in _unseen(of_problems, bounds, len(by_problems), seed))
        low, high = (float(np.quantile(*end)) for end in zip((lows, highs), _QUANTILES, strict=True))
    else:
        lows = highs = value - by_problems - by_seeds
        low, high = np.quantile(lows, _QUANTILES).tolist()
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(value, low, high), _two_sided(lows, highs)


def _two_sided(lows: Floats, highs: Floats) -> float:
    """One more resample than drawn, so never 0."""
    smaller = min(int((lows <= 0).sum()), int((highs >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(lows) + 1))


def _off_the_commonest(values: Floats) -> int:
    """How many problems do not have the commonest value."""
    return len(values) - int(np.unique(values, return_counts=True)[1].max())


def _unseen(values: Floats, bounds: Bounds, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Draws of both ends of Gaffke's interval for the mean of bounded values (P,), each (resamples,).

    Bayesian bootstrap (Dirichlet weights) with one more problem that was not seen and has the worst value: the lower
    bound for the lower end, the upper bound for the upper. On values of 0 and 1 it is Clopper and Pearson's exact
    interval, so that 0 of P gives [0, 1 - 0.025 ** (1 / P)]. Gaffke 2005; Learned-Miller & Thomas, arXiv 1905.06208,
    who found no distribution for which it covers less than 95 %.
    """
    random = np.random.default_rng([seed, len(values)])
    lows, highs = [], []
    size = max(1, _CHUNK_VALUES // (len(values) + 1))
    for start in range(0, resamples, size):
        weights = random.standard_exponential((min(size, resamples - start), len(values) + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        seen = weights[:, :-1] @ values
        lows.append(seen + weights[:, -1] * bounds[0])
        highs.append(seen + weights[:, -1] * bounds[1])
    return np.concatenate(lows), np.concatenate(highs)
