"""95 % percentile bootstrap intervals: over problems for one run, crossed over seeds and problems for several.

Seeds and problems are crossed: every seed answers the same problems. Resampling problems within each seed would treat
one hard problem as many, and measured coverage was 74 to 80 %; one draw of problems for all seeds (and for all methods,
which pairs their differences) times a draw of seeds covers 85, 90, 93 and 95 % at 2, 3, 5 and 10 seeds. With few seeds
the interval is therefore too narrow: say so wherever it is shown.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
SEED = 0
_CHUNK_VALUES = 2_000_000  # 16 MB of weights at a time, however many problems there are
_PERCENTILES = (2.5, 97.5)


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
    """Two-sided crossed-bootstrap p of no difference, see :func:`p_method`; None where there is no difference."""


def problems_method(resamples: int = RESAMPLES, seed: int = SEED) -> str:
    """How :func:`over_problems` made an interval, for the files that hold it."""
    return f"percentile bootstrap over problems, 95 %, {resamples} resamples, seed {seed}"


def crossed_method(resamples: int = RESAMPLES, seed: int = SEED) -> str:
    """How :func:`crossed` made an interval, for the files that hold it."""
    return (
        "percentile bootstrap, crossed (one draw of problems for all rows x a draw of seeds for each row), "
        f"95 %, {resamples} resamples, seed {seed}"
    )


def p_method(resamples: int = RESAMPLES) -> str:
    """How :func:`crossed` made a p, for the files that hold it."""
    return (
        "crossed-bootstrap test: twice the smaller share of resampled paired differences on one side of 0, "
        f"at least {2 / (resamples + 1):.1g}"
    )


def over_problems(per_problem: Floats, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """The mean over problems with its interval.

    Args:
        per_problem: (P,) one value a problem, finite.

    Raises:
        ValueError: no problems, another shape, or values that are not finite.
    """
    if per_problem.ndim != 1:
        raise ValueError(f"one value a problem is needed, (P,), not {per_problem.shape}")
    return crossed({"": per_problem[None, :]}, resamples=resamples, seed=seed)[""].mean


def crossed(
    groups: Mapping[str, Floats], *, resamples: int = RESAMPLES, seed: int = SEED, baseline: str | None = None
) -> dict[str, Crossed]:
    """Means over seeds and problems with their intervals, and paired differences to a baseline.

    Each resample draws the problems once for all groups, and for each group its seeds on its own (different methods
    share problems, not training randomness). With one seed only problems are resampled.

    Args:
        groups: for each name (S, P), a row a seed and a column a problem: the same problems in the same order in all
            groups, while S may differ.
        baseline: the group that differences are taken to.

    Returns:
        For each name its mean with interval and, if there is a baseline, the difference to it.

    Raises:
        ValueError: no groups, shapes that differ in P or are empty, values that are not finite, unknown baseline.
    """
    _check(groups, baseline)
    problems = next(iter(groups.values())).shape[1]
    # A stream for the problems and one for each group: a group's interval does not depend on what it is compared with.
    drawing_seeds = {name: np.random.default_rng([seed, zlib.crc32(name.encode())]) for name in groups}
    means: dict[str, list[Floats]] = {name: [] for name in groups}
    for weights in _problem_weights(np.random.default_rng(seed), problems, resamples):
        for name, values in groups.items():
            means[name].append(_resampled_means(drawing_seeds[name], values, weights))
    resampled = {name: np.concatenate(chunks) for name, chunks in means.items()}
    return {
        name: Crossed(_mean(groups, resampled, name), *_difference(groups, resampled, name, baseline))
        for name in groups
    }


def _check(groups: Mapping[str, Floats], baseline: str | None) -> None:
    if not groups:
        raise ValueError("no groups to compare")
    for name, values in groups.items():
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(f"{name!r}: values must be (S, P) with S, P >= 1, not {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name!r}: values must be finite")
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


def _resampled_means(random: np.random.Generator, values: Floats, problem_weights: Floats) -> Floats:
    """(B,) means of ``values`` (S, P) under the problem weights (B, P) and freshly drawn seeds."""
    seeds, problems = values.shape
    of_seeds = problem_weights @ values.T / problems
    if seeds == 1:
        only: Floats = of_seeds[:, 0]
        return only
    seed_weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(problem_weights))
    means: Floats = (seed_weights * of_seeds).sum(axis=1) / seeds
    return means


def _mean(groups: Mapping[str, Floats], resampled: Mapping[str, Floats], name: str) -> Interval:
    return _interval(float(groups[name].mean()), resampled[name])


def _difference(
    groups: Mapping[str, Floats], resampled: Mapping[str, Floats], name: str, baseline: str | None
) -> tuple[Interval | None, float | None]:
    if baseline is None or name == baseline:
        return None, None
    value = float(groups[name].mean() - groups[baseline].mean())
    differences = resampled[name] - resampled[baseline]
    return _interval(value, differences), _two_sided(differences)


def _two_sided(differences: Floats) -> float:
    """The level at which a percentile interval would just touch 0; one more resample than drawn, so never 0."""
    smaller = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(differences) + 1))


def _interval(value: float, resampled: Floats) -> Interval:
    low, high = np.percentile(resampled, _PERCENTILES)
    return Interval(value, float(low), float(high))
