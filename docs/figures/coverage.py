"""How often a 95 % interval holds the truth: docs/statistics.md's tables. `python docs/figures/coverage.py`

Made-up studies whose truth is known. Method, seed and problem decide a logit: level + seed + problem + both, each part
normal; 64 samples are drawn with that chance, Pass@k is estimated from their count, and the interval is made as
reports make it. The truth is the mean over all seeds and problems that might have been drawn. The difference is between
two methods of the same level on the same problems, so its truth is 0.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed
from progrpo_cli.metrics.passk import pass_at_k_per_problem

SAMPLES = 64
SEEDS = (2, 3, 5, 10)


@dataclass(frozen=True)
class World:
    """Where studies come from: sizes of the parts of the logit."""

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
)


def truth(world: World, k: int) -> float:
    """Mean of 1 - (1 - p)^k over the logit's distribution, by a fine grid over its quantiles' range."""
    spread = np.sqrt(world.seed**2 + world.problem**2 + world.both**2)
    at = np.linspace(-9, 9, 40_001)
    weights = np.exp(-(at**2) / 2)
    chance = 1 / (1 + np.exp(-(world.level + spread * at)))
    return float((weights * (1 - (1 - chance) ** k)).sum() / weights.sum())


def study(random: np.random.Generator, world: World, seeds: int, k: int) -> dict[str, np.ndarray]:
    """Two methods' Pass@k, (seeds, problems) each, on the same problems."""
    problem = world.problem * random.standard_normal(world.problems)
    groups = {}
    for name in ("one", "other"):
        seed = world.seed * random.standard_normal((seeds, 1))
        both = world.both * random.standard_normal((seeds, world.problems))
        chance = 1 / (1 + np.exp(-(world.level + seed + problem + both)))
        correct = random.binomial(SAMPLES, chance)
        flat = pass_at_k_per_problem(np.full(correct.size, SAMPLES), correct.reshape(-1), k)
        groups[name] = flat.reshape(correct.shape)
    return groups


def percentiles(groups: dict[str, np.ndarray], resamples: int, seed: int) -> tuple[bool, ...]:
    """The plain crossed percentile bootstrap: ends of the mean of `one` and of the difference."""
    random = np.random.default_rng(seed)
    problems = groups["one"].shape[1]
    weights = random.multinomial(problems, np.full(problems, 1 / problems), size=resamples) / problems
    means = {}
    for name, values in groups.items():
        seeds = len(values)
        drawn = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
        means[name] = (drawn * (weights @ values.T)).sum(axis=1)
    ends = [np.percentile(draws, (2.5, 97.5)) for draws in (means["one"], means["other"] - means["one"])]
    return tuple(float(end) for pair in ends for end in pair)


def coverage(world: World, seeds: int, k: int, studies: int, resamples: int) -> dict[str, float]:
    """Share of studies whose interval holds the truth, for the mean and the difference, by both ways."""
    random = np.random.default_rng([seeds, k, world.problems, int(1000 * world.both)])
    right = truth(world, k)
    hits = dict.fromkeys(("mean", "difference", "plain mean", "plain difference"), 0)
    for number in range(studies):
        groups = study(random, world, seeds, k)
        ours = crossed(groups, bounds=PROBABILITY, baseline="one", resamples=resamples, seed=number)
        difference = ours["other"].difference
        hits["mean"] += ours["one"].mean.low <= right <= ours["one"].mean.high
        hits["difference"] += difference.low <= 0 <= difference.high
        low, high, low_difference, high_difference = percentiles(groups, resamples, number)
        hits["plain mean"] += low <= right <= high
        hits["plain difference"] += low_difference <= 0 <= high_difference
    return {name: count / studies for name, count in hits.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    for k in (1, 16):
        print(f"\nPass@{k}, {options.studies} studies a cell\n")
        print("| world | " + " | ".join(f"{s} seeds" for s in SEEDS) + " |")
        print("| --- |" + " ---: |" * len(SEEDS))
        for world in WORLDS:
            cells = [coverage(world, seeds, k, options.studies, options.resamples) for seeds in SEEDS]
            for what in ("mean", "plain mean", "difference", "plain difference"):
                shown = " | ".join(f"{100 * cell[what]:.1f}" for cell in cells)
                print(f"| {world.name}: {what} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
