"""The line through a base's temperatures, and the coverage of intervals around it."""

import numpy as np
import pytest

from progrpo_cli.metrics.frontier import hull, measure_standing
from progrpo_cli.metrics.passk import pass_at_k_per_problem

N, K = 64, 32


def spread_around(mean: float, problems: int = 400) -> np.ndarray:
    """(P,) values with this mean."""
    values = np.linspace(-0.05, 0.05, problems)
    return mean + values


def made_of(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Pass@1 and Pass@k, (T, P) each, with these means."""
    base_1, base_k = zip(*points, strict=True)
    return np.stack([spread_around(x) for x in base_1]), np.stack([spread_around(y) for y in base_k])


LINE = [(0.2, 0.8), (0.3, 0.9), (0.4, 0.7), (0.5, 0.7), (0.45, 0.72), (0.6, 0.3)]


def test_corners_are_those_of_the_upper_hull_right_of_its_highest_point():
    base_1, base_k = np.array(LINE).T
    assert hull(base_1, base_k) == [1, 3, 5]
    assert hull(np.array([0.3]), np.array([0.5])) == [0]
    assert hull(np.array([0.3, 0.3]), np.array([0.5, 0.6])) == [1]
    assert hull(np.array([0.2, 0.3, 0.4]), np.array([0.6, 0.5, 0.4])) == [
        0,
        2,
    ]  # the middle of three points on a line is no corner


@pytest.mark.parametrize(
    ("policy", "line", "left", "right", "share"),
    [
        ((0.4, 0.75), 0.8, 1, 3, 0.5),  # half way between two corners, above the temperature below them
        ((0.1, 0.5), 0.9, 1, 1, 1.0),  # horizontal to the left of the highest point
        ((0.3, 0.95), 0.9, 1, 1, 1.0),
        ((0.55, 0.5), 0.5, 3, 5, 0.5),
        ((0.65, 0.2), 0.1, 3, 5, 1.5),  # extrapolated beyond its right end
    ],
)
def test_height_is_measured_at_equal_pass_1_and_margin_to_the_best_temperature(policy, line, left, right, share):
    base_1, base_k = made_of(LINE)
    pass_1, pass_k = (spread_around(mean)[None] for mean in policy)
    standing = measure_standing(base_1, base_k, pass_1, pass_k, resamples=200)
    assert standing.height.value == pytest.approx(policy[1] - line)
    assert standing.margin.value == pytest.approx(policy[0] - 0.6)
    assert (standing.left, standing.right, standing.share) == (left, right, pytest.approx(share))
    assert standing.beyond == (policy[0] > 0.6)
    assert standing.better == (policy[0] > 0.6 or policy[1] > line)


def test_a_coin_toss_per_problem_lies_on_the_line():
    """Half of the problems at one temperature, half at another. A coin toss per sample gives another point."""
    random = np.random.default_rng(0)
    cold, hot = random.beta(0.3, 0.5, 4000), random.beta(2, 6, 4000)
    coin = random.random(4000) < 0.5
    base_1 = np.stack([cold, hot])
    base_k = 1 - (1 - base_1) ** K
    mixed = np.where(coin, cold, hot)
    standing = measure_standing(base_1, base_k, mixed[None], (1 - (1 - mixed) ** K)[None], resamples=500)
    assert standing.height.low < 0 < standing.height.high
    mixed_samples = (cold + hot) / 2
    other = measure_standing(base_1, base_k, mixed_samples[None], (1 - (1 - mixed_samples) ** K)[None], resamples=500)
    assert other.height.low > 0


def test_the_same_policy_is_neither_above_nor_below():
    base_1, base_k = made_of(LINE)
    standing = measure_standing(base_1, base_k, base_1[3:4], base_k[3:4], resamples=200)
    assert (standing.height.value, standing.height.low, standing.height.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert not standing.better


def test_seeds_that_differ_make_the_interval_wider():
    base_1, base_k = made_of(LINE)
    x, y = spread_around(0.4), spread_around(0.85)
    alike = measure_standing(base_1, base_k, np.stack([x] * 3), np.stack([y] * 3), resamples=2000)
    differing = measure_standing(base_1, base_k, np.stack([x] * 3), np.stack([y - 0.03, y, y + 0.03]), resamples=2000)
    assert alike.height.low > 0
    assert differing.height.low < 0 < differing.height.value == pytest.approx(0.05)


def test_greedy_counts_for_the_best_temperature_and_is_not_on_the_line():
    base_1, base_k = made_of(LINE)
    policy = spread_around(0.65)[None], spread_around(0.15)[None]
    without = measure_standing(base_1, base_k, *policy, resamples=200)
    standing = measure_standing(base_1, base_k, *policy, greedy_pass_1=spread_around(0.7)[None], resamples=200)
    assert without.margin.value == pytest.approx(0.05)
    assert (standing.margin.value, standing.best) == (pytest.approx(-0.05), len(LINE))
    assert [standing.height.value, without.height.value] == pytest.approx([0.05, 0.05])
    assert without.beyond
    assert not standing.beyond


def test_shapes_and_values_that_cannot_be_compared_are_refused():
    base_1, base_k = made_of(LINE)
    for arguments in (
        (base_1, base_k[:3], base_1, base_k),
        (base_1, base_k, base_1[:1, :5], base_k[:1, :5]),
        (base_1[:0], base_k[:0], base_1, base_k),
        (base_1, base_k, base_1 + 1, base_k),
        (base_1, base_k * np.nan, base_1, base_k),
    ):
        with pytest.raises(ValueError, match="must"):
            measure_standing(*arguments)


class World:
    """A base that is more confident, right or wrong, at low temperatures: Pass@1 rises and Pass@k falls."""

    temperatures = (0.0, 0.3, 0.5, 0.7, 1.0, 1.3)

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def problems(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        return self.random.normal(-0.6, 1.2, count), self.random.normal(0, 0.8, count)

    def chances(self, problems: tuple[np.ndarray, np.ndarray], temperature: float) -> np.ndarray:
        """(P,) the probability that a sample is correct; 0 or 1 for greedy."""
        hardness, habit = problems
        logits = hardness / max(temperature, 0.12) ** 0.8 - 1.2 * temperature + habit * (1.3 - temperature)
        right = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        return (right > 0.5).astype(float) if temperature == 0 else right

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """(T,) Pass@1 and Pass@k over all problems."""
        problems = self.problems(200_000)
        chances = np.stack([self.chances(problems, t) for t in self.temperatures])
        return chances.mean(axis=1), (1 - (1 - chances) ** K).mean(axis=1)

    def sample(self, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pass@1 and Pass@k of n samples, in the shape of the chances."""
        correct = self.random.binomial(N, chances)
        drawn = np.full(correct.size, N)
        base_1, base_k = (pass_at_k_per_problem(drawn, correct.ravel(), k).reshape(correct.shape) for k in (1, K))
        return base_1, base_k


def coverage(kind: str, seeds: int, problems: int, repetitions: int, resamples: int) -> tuple[float, float]:
    """Shares of repetitions in which the intervals of height and margin contain the truth.

    Args:
        kind: ``mixture``: a coin toss per problem between two corners, a point on the line; ``end``: another sample of
            the line's right end; ``seeds``: the mixture, but each seed always solves a random share (0 to 0.2) of the
            problems.
    """
    world = World(seed=1)
    base_1, base_k = world.truth()
    cold, hot = (world.temperatures.index(t) for t in (0.7, 1.0))
    corners = [place + 1 for place in hull(base_1[1:], base_k[1:])]  # the first temperature is greedy
    best, end = int(base_1.argmax()), corners[-1]
    assert {cold, hot} <= set(corners)
    x, y = ((values[cold] + values[hot]) / 2 for values in (base_1, base_k))
    if kind == "end":
        x, y = base_1[end], base_k[end]
    elif kind == "seeds":
        x, y = 0.9 * x + 0.1, 0.9 * y + 0.1
    assert x <= base_1[end]
    truth = y - np.interp(x, base_1[corners], base_k[corners]), x - base_1[best]
    covered = np.zeros(2)
    for repetition in range(repetitions):
        here = world.problems(problems)
        base_pass_1, base_pass_k = map(
            np.stack, zip(*(world.sample(world.chances(here, t)) for t in world.temperatures), strict=True)
        )
        if kind == "end":
            chances = np.stack([world.chances(here, world.temperatures[end])] * seeds)
        else:
            coin = world.random.random((seeds, problems)) < 0.5
            chances = np.where(coin, *(world.chances(here, world.temperatures[t]) for t in (cold, hot)))
        if kind == "seeds":
            share = world.random.uniform(0, 0.2, (seeds, 1))
            chances = np.where(world.random.random((seeds, problems)) < share, 1.0, chances)
        policy = world.sample(chances)
        standing = measure_standing(
            base_pass_1[1:],
            base_pass_k[1:],
            *policy,
            greedy_pass_1=base_pass_1[:1],
            resamples=resamples,
            seed=repetition,
        )
        ends = zip((standing.height, standing.margin), truth, strict=True)
        covered += [interval.low - 1e-9 <= true <= interval.high + 1e-9 for interval, true in ends]
    return covered[0] / repetitions, covered[1] / repetitions


@pytest.mark.parametrize(("kind", "seeds", "problems"), [("mixture", 1, 100), ("end", 1, 100), ("seeds", 5, 300)])
def test_intervals_hold_the_truth(kind, seeds, problems):
    """Policies no better than the base, and better ones; docs/statistics.md has the whole grid."""
    height, margin = coverage(kind, seeds, problems, repetitions=150, resamples=400)
    assert height >= 0.88
    assert margin >= 0.89


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "seeds", "problems"),
    [
        *((kind, seeds, problems) for kind in ("mixture", "end") for seeds in (1, 3) for problems in (100, 300)),
        ("seeds", 3, 300),
        ("seeds", 5, 300),
    ],
)
def test_intervals_hold_the_truth_on_the_grid(kind, seeds, problems):
    height, margin = coverage(kind, seeds, problems, repetitions=600, resamples=1000)
    assert height >= 0.91
    assert margin >= 0.895
