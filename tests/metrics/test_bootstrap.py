from math import comb

import numpy as np
import pytest

from progrpo_cli.metrics import bootstrap, resampling
from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed_bootstrap, mean_interval, mean_intervals, metric_bounds
from progrpo_cli.metrics.tail import MIN_P


def test_interval_of_a_mean_agrees_with_the_normal_approximation():
    values = np.random.default_rng(1).normal(2.0, 3.0, size=400)
    interval = mean_interval(values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.value == values.mean()
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)


def test_the_seed_decides_the_interval():
    values = np.random.default_rng(1).random(50)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_many_problems_are_done_in_chunks_and_all_of_them_count(monkeypatch):
    values = np.random.default_rng(1).random(500)
    whole = mean_interval(values, resamples=999)
    monkeypatch.setattr(resampling, "_CHUNK_VALUES", 500 * 7)
    in_chunks = mean_interval(values, resamples=999)
    assert (in_chunks.low, in_chunks.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


def test_coverage_over_problems_is_about_95_percent():
    random = np.random.default_rng(7)
    hit = 0
    for number in range(300):
        interval = mean_interval((random.random(60) < 0.4).astype(float), resamples=500, seed=number)
        hit += interval.low <= 0.4 <= interval.high
    assert 0.90 <= hit / 300 <= 0.98


@pytest.mark.parametrize("problems", [30, 100])
def test_coverage_is_95_percent_from_ten_seeds_on(problems):
    """Skewed values, seeds that differ and an interaction; resampling only problems covers too little."""
    random = np.random.default_rng(problems)
    hits = np.zeros(3)
    studies = 800
    for number in range(studies):
        problem = random.exponential(1.0, problems)
        one, other = (
            problem + random.normal(0, 0.3, (10, 1)) + random.normal(0, 0.5, (10, problems)) for _ in range(2)
        )
        results = crossed_bootstrap({"one": one, "other": other}, baseline="one", resamples=300, seed=number)
        only_problems = mean_interval(other.mean(axis=0), resamples=300, seed=number)
        for place, (interval, truth) in enumerate(
            [(results["one"].mean, 1.0), (results["other"].difference, 0.0), (only_problems, 1.0)]
        ):
            hits[place] += interval.low <= truth <= interval.high
    mean, difference, over_problems_only = hits / studies
    assert mean == pytest.approx(0.95, abs=0.02)
    assert difference == pytest.approx(0.95, abs=0.02)
    assert over_problems_only < 0.93


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_coverage_with_few_seeds_that_differ(seeds):
    """Plain percentiles cover 70 to 87 % here."""
    random = np.random.default_rng(seeds)
    hits = 0
    for number in range(400):
        values = random.normal(0, 1.0, (seeds, 1)) + random.normal(0, 1.0, (1, 40))
        interval = crossed_bootstrap({"": values}, resamples=300, seed=number)[""].mean
        hits += interval.low <= 0 <= interval.high
    assert hits / 400 >= 0.93


@pytest.mark.parametrize(("right", "problems"), [(0, 100), (1, 100), (2, 40), (40, 40), (38, 40), (0, 1), (1, 1)])
def test_at_the_edges_the_interval_is_the_exact_binomial_one(right, problems):
    """With two thirds of the probability of the observed count: between Clopper-Pearson and the mid-p interval."""
    values = np.array([1.0] * right + [0.0] * (problems - right))
    interval = mean_interval(values, bounds=PROBABILITY)
    low, high = _binomial(right, problems)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.004)


def _binomial(right, problems):
    """By definition: where the upper and lower tails, with 2/3 of the probability of the count, are 2.5 %."""
    chances = np.linspace(0, 1, 20_001)

    def exactly(count):
        return comb(problems, count) * chances**count * (1 - chances) ** (problems - count)

    more, fewer = (sum(map(exactly, counts), 0 * chances) for counts in (range(right + 1, problems + 1), range(right)))
    low = chances[np.argmax(more + 2 / 3 * exactly(right) >= 0.025)] if right else 0.0
    enough = fewer + 2 / 3 * exactly(right) >= 0.025
    high = chances[len(chances) - 1 - np.argmax(enough[::-1])] if right < problems else 1.0
    return low, high


@pytest.mark.parametrize("chance", [0.002, 0.02, 0.98, 0.998])
def test_coverage_near_the_edges_is_not_below_95_percent(chance):
    random = np.random.default_rng(5)
    hits = 0
    for number in range(400):
        values = (random.random((1, 100)) < chance).astype(float)
        interval = crossed_bootstrap({"": values}, bounds=PROBABILITY, resamples=400, seed=number)[""].mean
        assert 0 <= interval.low <= interval.high <= 1
        hits += interval.low <= chance <= interval.high
    assert hits / 400 >= 0.93


def test_an_unseen_difference_is_not_ruled_out():
    nothing = np.zeros((3, 100))
    difference = crossed_bootstrap({"grpo": nothing, "other": nothing}, bounds=PROBABILITY, baseline="grpo")[
        "other"
    ].difference
    assert difference.value == 0
    assert (difference.low, difference.high) == pytest.approx((-0.0334, 0.0334), abs=0.002)


def test_at_the_edges_seeds_that_differ_still_count():
    """Nine seeds solve nothing and one solves eight of 100 problems; a new seed may be like it."""
    values = np.zeros((10, 100))
    values[0, :8] = 1.0
    pooled = crossed_bootstrap({"": values}, bounds=PROBABILITY)[""].mean
    averaged = mean_interval(values.mean(axis=0), bounds=PROBABILITY)
    assert pooled.low == 0 < averaged.low
    assert pooled.high > averaged.high


def test_values_out_of_bounds_are_refused():
    with pytest.raises(ValueError, match="must lie from 0"):
        mean_interval(np.array([0.5, 1.5]), bounds=PROBABILITY)


def test_identical_groups_of_one_seed_differ_by_exactly_nothing():
    values = np.random.default_rng(1).random((1, 80))
    difference = crossed_bootstrap({"grpo": values, "copy": values.copy()}, baseline="grpo")["copy"].difference
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_problems_are_shared_so_a_constant_gain_is_certain():
    values = np.random.default_rng(1).random((1, 80))
    compared = crossed_bootstrap({"grpo": values, "better": values + 0.05}, baseline="grpo")
    difference = compared["better"].difference
    assert difference.low == pytest.approx(0.05)
    assert difference.high == pytest.approx(0.05)
    assert compared["better"].mean.high - compared["better"].mean.low > 0.08  # without pairing, the gain would not show
    assert compared["grpo"].difference is None


def test_seeds_are_drawn_separately_for_each_group():
    levels = np.arange(4.0)[:, None] + np.zeros((1, 30))  # all variation is between seeds
    difference = crossed_bootstrap({"grpo": levels, "copy": levels.copy()}, baseline="grpo")["copy"].difference
    assert difference.value == 0.0
    # Each group's mean has the squared error (5/3) / 4, from four seeds: between the normal and t with 3 degrees.
    error = np.sqrt(2 * (5 / 3) / 4)
    assert 1.96 * error < difference.high < 3.182 * error
    assert difference.low == pytest.approx(-difference.high, rel=0.1)


def test_groups_may_have_different_numbers_of_seeds_and_do_not_disturb_each_other():
    random = np.random.default_rng(2)
    one, three = random.random((1, 50)), random.random((3, 50))
    alone = crossed_bootstrap({"three": three})["three"].mean
    together = crossed_bootstrap({"base": one, "three": three}, baseline="base")["three"]
    for part in ("value", "low", "high"):  # equal up to rounding in the matrix product
        assert getattr(together.mean, part) == pytest.approx(getattr(alone, part), abs=1e-12)
    assert together.difference.value == pytest.approx(three.mean() - one.mean())


@pytest.mark.parametrize(
    ("groups", "baseline", "message"),
    [
        ({}, None, "no groups"),
        ({"a": np.array([[1.0, np.nan]])}, None, "finite"),
        ({"a": np.ones((1, 3)), "b": np.ones((1, 4))}, None, "same problems"),
        ({"a": np.ones((2, 0))}, None, "S, P"),
        ({"a": np.ones((1, 3))}, "grpo", "not among"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(groups, baseline, message):
    with pytest.raises(ValueError, match=message):
        crossed_bootstrap(groups, baseline=baseline)


def test_method_descriptions():
    assert bootstrap.mean_interval_method() == "studentised bootstrap over problems, 95 %, 10000 resamples, seed 0"
    assert "crossed" in bootstrap.crossed_bootstrap_method(resamples=7, seed=5)
    assert "7 resamples, seed 5" in bootstrap.crossed_bootstrap_method(resamples=7, seed=5)


def test_p_is_one_without_a_difference_and_smallest_for_a_certain_one():
    values = np.random.default_rng(0).random((1, 30))
    groups = {"a": values, "same": values, "more": values + 1, "less": values - 1}
    result = crossed_bootstrap(groups, baseline="a", resamples=999, policies=groups)
    assert result["a"].p is None
    assert result["same"].p == 1.0
    assert result["more"].p == result["less"].p == MIN_P


def test_p_of_no_difference_is_below_a_level_about_that_often():
    random = np.random.default_rng(1)
    below = 0
    for _ in range(300):
        problems = random.normal(size=40)
        groups = {name: (problems + random.normal(size=40))[None, :] for name in "ab"}
        below += crossed_bootstrap(groups, baseline="a", resamples=500, policies="ab")["b"].p <= 0.1
    assert 0.05 < below / 300 < 0.16


def test_a_method_with_one_seed_is_not_tested():
    random = np.random.default_rng(0)
    groups = {"base": random.random((1, 30)), "one": random.random((1, 30)), "two": random.random((2, 30))}
    against_base = crossed_bootstrap(groups, baseline="base", policies=["base"], resamples=200)
    assert against_base["one"].p is None
    assert against_base["one"].difference is not None
    assert against_base["two"].p is not None
    against_one = crossed_bootstrap(groups, baseline="one", policies=["base"], resamples=200)
    assert against_one["base"].p is None
    assert against_one["two"].p is None


def test_values_near_a_bound_that_all_differ_slightly_are_not_certain():
    """A rule that counts exactly equal values fails here; it covered 65 %."""
    values = 1 - np.random.default_rng(3).lognormal(-9, 1.0, 30)
    assert len(np.unique(values)) == 30
    assert mean_interval(values, bounds=PROBABILITY).low < 0.99
    twice_rounded = np.full(30, 0.1) + np.arange(30) % 2 * 1e-17  # equal up to rounding
    assert mean_interval(twice_rounded, bounds=PROBABILITY) == mean_interval(np.full(30, 0.1), bounds=PROBABILITY)


def test_ends_change_gradually_with_one_more_solved_problem():
    """From 0 of 60 solved problems to where only studentised draws are used, both ends rise in similar steps."""
    metrics = {str(right): np.array([1.0] * right + [0.0] * (60 - right)) for right in range(21)}
    results = mean_intervals(metrics, bounds=dict.fromkeys(metrics, PROBABILITY))
    highs = np.array([results[str(right)].high for right in range(21)])
    lows = np.array([results[str(right)].low for right in range(21)])
    for ends in (lows, highs):
        steps = np.diff(ends)
        assert (steps > 0).all()
        assert steps.max() < 0.06  # 1 / 60, or three times that across the lattice of the resamples


def test_metric_bounds():
    assert metric_bounds("pass@32", 64) == (0.0, 1.0)
    assert metric_bounds("distinct_correct", 64) == (0.0, 64.0)
    assert metric_bounds("entropy", 64) is None


@pytest.mark.parametrize("seeds", [3, 5])
def test_coverage_of_a_difference_of_methods_whose_seeds_differ(seeds):
    """Welch's degrees of freedom cover about 95 %; adding two draws of t covered 99 % with three seeds."""
    random = np.random.default_rng(seeds)
    hits = 0
    for number in range(600):
        groups = {name: random.normal(size=(seeds, 1)) + random.normal(0, 0.3, size=(seeds, 30)) for name in "ab"}
        interval = crossed_bootstrap(groups, baseline="a", resamples=400, seed=number)["b"].difference
        hits += interval.low <= 0 <= interval.high
    assert 0.93 <= hits / 600 <= 0.98
