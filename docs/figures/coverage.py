"""Coverage of 95 % intervals, the tables of docs/statistics.md: `python docs/figures/coverage.py`

The studies are simulated, so the true values are known.

- One policy: each problem's probability of a correct sample is drawn from a beta distribution, n samples are drawn with
  it, and Pass@k is estimated from their count. The beta is chosen so that the mean of Pass@k is the truth of the cell.
- Several seeds: the logit is level + seed + problem + both, and each part is normal. The truth is the mean over the
  population of seeds and problems. The difference is between two methods of the same level on the same problems, so
  its truth is 0.

Intervals are computed by the functions that reports use.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed_bootstrap, mean_intervals
from progrpo_cli.metrics.passk import pass_at_k_per_problem
from progrpo_cli.metrics.resampling import effective_problems

TRUTHS = (0.001, 0.005, 0.02, 0.05, 0.15, 0.5, 0.85, 0.95, 0.98, 0.995, 0.999)
SHAPES = {0.05: "nearly all or none", 1.0: "1", 4.0: "4", 20.0: "20", 1000.0: "nearly constant"}
"""Sum of the two parameters of the beta -> how it spreads the problems' probabilities."""
PROBLEMS = (30, 100, 300)
SAMPLES = (64, 256)
SEEDS = (2, 3, 5, 10)
BATCHES = 10
"""Data sets of one batch share their resamples. With one batch, their common error would bias the whole cell."""


@dataclass(frozen=True)
class Cell:
    """How the problems of one policy are simulated."""

    problems: int
    n: int
    k: int
    shape: float
    truth: float
    """The mean of Pass@k."""


@dataclass(frozen=True)
class Measured:
    """Results over the data sets of a cell."""

    coverage: float
    below: float
    """Share of data sets whose truth lies below the interval; ``above`` likewise."""
    above: float
    width: float
    """Mean width in units of Gaffke's interval."""
    effective_problems: float
    """Median number of problems that the spread rests on."""
    deviation: float
    """Mean standard deviation of a problem's value."""

    @property
    def nearly_constant(self) -> bool:
        """Whether the spread rests on fewer than five problems or is small."""
        return self.effective_problems < 5 or self.deviation < 0.1


def grid(problems: Sequence[int] = PROBLEMS, samples: Sequence[int] = SAMPLES) -> Iterator[Cell]:
    """The cells of one policy. Pass@1 needs truths up to 0.5 only: the other half is its mirror image."""
    for size in problems:
        for k in (1, 32):
            for n in samples:
                for shape in SHAPES:
                    for truth in TRUTHS:
                        if k > 1 or truth <= 0.5:
                            yield Cell(size, n, k, shape, truth)


def measure(cell: Cell, *, studies: int, resamples: int, seed: int = 0) -> Measured:
    """Simulate the data sets of a cell and compute the interval of each."""
    stream = [seed, cell.problems, cell.n, cell.k, round(1000 * cell.shape), round(1000 * cell.truth)]
    values = _values(np.random.default_rng(stream), cell, studies)
    ends = [_ends(some, resamples, seed + batch) for batch, some in enumerate(np.array_split(values, BATCHES))]
    low, high = np.concatenate(ends, axis=1)
    below, above = (low > cell.truth + 1e-12).mean(), (high < cell.truth - 1e-12).mean()
    return Measured(
        coverage=float(1 - below - above),
        below=float(below),
        above=float(above),
        width=float((high - low).mean() / _gaffke_width(values, resamples)),
        effective_problems=float(np.median(effective_problems(values, PROBABILITY)[0])),
        deviation=float(values.std(axis=1).mean()),
    )


def _ends(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Low and high ends of the data sets of a batch, (2, batch)."""
    metrics = {str(number): per_problem for number, per_problem in enumerate(values)}
    intervals = mean_intervals(metrics, bounds=dict.fromkeys(metrics, PROBABILITY), resamples=resamples, seed=seed)
    return np.array([[interval.low, interval.high] for interval in intervals.values()]).T


def _values(random: np.random.Generator, cell: Cell, studies: int) -> np.ndarray:
    """(studies, problems) estimates of Pass@k."""
    right, wrong = _beta(cell)
    chance = np.nan_to_num(random.beta(right, wrong, size=(studies, cell.problems)), nan=float(right > wrong))
    correct = random.binomial(cell.n, chance)
    return pass_at_k_per_problem(np.full(cell.n + 1, cell.n), np.arange(cell.n + 1), cell.k)[correct]


def _beta(cell: Cell) -> tuple[float, float]:
    """The beta's parameters, by bisection: E[(1 - p)^k] is the product of (wrong + i) / (shape + i)."""
    draws = np.arange(cell.k)
    low, high = -30.0, 30.0
    for _ in range(80):
        logit = (low + high) / 2
        right, wrong = (max(1e-300, cell.shape / (1 + np.exp(sign * logit))) for sign in (-1, 1))
        value = -np.expm1(np.log((wrong + draws) / (cell.shape + draws)).sum())
        low, high = (logit, high) if value < cell.truth else (low, logit)
    return right, wrong


def _gaffke_width(values: np.ndarray, resamples: int) -> float:
    weights = np.random.default_rng(0).standard_exponential((resamples, values.shape[1] + 1))
    weights /= weights.sum(axis=1, keepdims=True)
    seen = values @ weights[:, :-1].T
    high = np.quantile(seen + weights[:, -1], 0.975, axis=1)
    return float((high - np.quantile(seen, 0.025, axis=1)).mean())


@dataclass(frozen=True)
class World:
    """How studies over seeds are simulated: the standard deviations of the logit's parts."""

    name: str
    problems: int
    level: float
    seed: float
    problem: float
    both: float


WORLDS = (
    World("as on the lab: seeds differ a little", 100, -1.2, 0.1, 1.2, 0.4),
    World("seeds differ much", 100, -1.0, 0.6, 1.2, 0.3),
    World("seeds do not differ", 100, -0.5, 0.0, 1.5, 0.0),
    World("30 problems, seed and problem interact much", 30, -1.0, 0.3, 1.0, 1.0),
    World("30 hard problems", 30, -4.0, 0.3, 1.5, 0.5),
    World("30 nearly hopeless problems", 30, -7.0, 0.3, 1.0, 0.3),
    World("30 easy problems", 30, 1.0, 0.3, 1.5, 0.5),
    World("100 hard problems", 100, -5.0, 0.3, 2.0, 0.3),
    World("300 easy problems, seeds differ much", 300, 0.5, 0.6, 1.0, 0.3),
    World("300 problems, some hopeless", 300, 2.0, 0.2, 4.0, 0.5),
)


def truth(world: World, k: int) -> float:
    """Mean of 1 - (1 - p)^k over the distribution of the logit, by numerical integration."""
    spread = np.sqrt(world.seed**2 + world.problem**2 + world.both**2)
    at = np.linspace(-9, 9, 40_001)
    weights = np.exp(-(at**2) / 2)
    chance = 1 / (1 + np.exp(-(world.level + spread * at)))
    return float((weights * (1 - (1 - chance) ** k)).sum() / weights.sum())


def study(random: np.random.Generator, world: World, seeds: int, k: int, n: int = 64) -> dict[str, np.ndarray]:
    """Two methods' Pass@k, (seeds, problems) each, on the same problems."""
    problem = world.problem * random.standard_normal(world.problems)
    groups = {}
    for name in ("one", "other"):
        seed = world.seed * random.standard_normal((seeds, 1))
        both = world.both * random.standard_normal((seeds, world.problems))
        chance = 1 / (1 + np.exp(-(world.level + seed + problem + both)))
        groups[name] = pass_at_k_per_problem(np.full(n + 1, n), np.arange(n + 1), k)[random.binomial(n, chance)]
    return groups


def coverage(world: World, seeds: int, k: int, studies: int, resamples: int) -> dict[str, float]:
    """Share of studies whose interval contains the truth, for the mean and the difference."""
    random = np.random.default_rng([seeds, k, world.problems, int(1000 * world.both), int(10 * abs(world.level))])
    right = truth(world, k)
    hits = dict.fromkeys(("mean", "difference"), 0)
    for number in range(studies):
        groups = study(random, world, seeds, k)
        ours = crossed_bootstrap(groups, bounds=PROBABILITY, baseline="one", resamples=resamples, seed=number)
        difference = ours["other"].difference
        hits["mean"] += ours["one"].mean.low <= right <= ours["one"].mean.high
        hits["difference"] += difference.low <= 0 <= difference.high
    return {name: count / studies for name, count in hits.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--part", choices=("policy", "seeds", "both"), default="both")
    options = parser.parse_args()
    if options.part != "seeds":
        _print_grid(options.studies, options.resamples)
    if options.part != "policy":
        _print_seeds(options.studies, options.resamples)


def _print_grid(studies: int, resamples: int) -> None:
    measured = {cell: measure(cell, studies=studies, resamples=resamples) for cell in grid()}
    for k in (1, 32):
        print(f"\nPass@{k}, one policy, {studies} data sets a cell: least and greatest coverage over problems and n\n")
        truths = [value for value in TRUTHS if k > 1 or value <= 0.5]
        print("| shape | " + " | ".join(f"{value:g}" for value in truths) + " |")
        print("| --- |" + " ---: |" * len(truths))
        for shape, name in SHAPES.items():
            cells = [
                [m.coverage for cell, m in measured.items() if (cell.k, cell.shape, cell.truth) == (k, shape, value)]
                for value in truths
            ]
            print(f"| {name} | " + " | ".join(f"{100 * min(c):.1f} to {100 * max(c):.1f}" for c in cells) + " |")
    print()
    least = min(measured.items(), key=lambda item: item[1].coverage)
    print(f"least: {least}")
    print(f"widest in units of Gaffke's: {max(m.width for m in measured.values()):.2f}")
    spread = {cell: m for cell, m in measured.items() if not m.nearly_constant}
    print(f"{len(spread)} of {len(measured)} cells are not nearly constant; above 97 % of them:")
    for cell, measurement in spread.items():
        if measurement.coverage > 0.97:
            print(f"  {cell}: {measurement}")


def _print_seeds(studies: int, resamples: int) -> None:
    for k in (1, 32):
        print(f"\nPass@{k}, {studies} studies a cell\n")
        print("| world | truth | " + " | ".join(f"{s} seeds" for s in SEEDS) + " |")
        print("| --- | ---: |" + " ---: |" * len(SEEDS))
        for world in WORLDS:
            cells = [coverage(world, seeds, k, studies, resamples) for seeds in SEEDS]
            for what in ("mean", "difference"):
                shown = " | ".join(f"{100 * cell[what]:.1f}" for cell in cells)
                right = truth(world, k) if what == "mean" else 0.0
                print(f"| {world.name}: {what} | {right:.3g} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
