import numpy as np
import pytest

from progrpo_cli.metrics import bootstrap
from progrpo_cli.metrics.bootstrap import crossed, over_problems


def test_interval_of_a_mean_agrees_with_the_normal_approximation():
    values = np.random.default_rng(1).normal(2.0, 3.0, size=400)
    interval = over_problems(values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.value == values.mean()
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)


def test_the_seed_decides_the_interval():
    values = np.random.default_rng(1).random(50)
    assert over_problems(values, seed=3) == over_problems(values, seed=3)
    assert over_problems(values, seed=3) != over_problems(values, seed=4)


def test_many_problems_are_done_in_chunks_and_all_of_them_count(monkeypatch):
    values = np.random.default_rng(1).random(500)
    whole = over_problems(values, resamples=999)
    monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 500 * 7)
    assert over_problems(values, resamples=999) == whole


def test_coverage_over_problems_is_about_95_percent():
    random = np.random.default_rng(7)
    hit = 0
    for number in range(300):
        interval = over_problems((random.random(60) < 0.4).astype(float), resamples=500, seed=number)
        hit += interval.low <= 0.4 <= interval.high
    assert 0.90 <= hit / 300 <= 0.98


def test_crossed_covers_what_resampling_problems_alone_does_not():
    """Ten seeds whose true levels differ: an interval over problems only is about these seeds, not about the method."""
    random = np.random.default_rng(11)
    crossed_hits = problems_hits = 0
    for number in range(150):
        values = random.normal(0, 1.0, (10, 1)) + random.normal(0, 1.0, (1, 40)) + random.normal(0, 0.5, (10, 40))
        pooled = crossed({"a": values}, resamples=400, seed=number)["a"].mean
        only_problems = over_problems(values.mean(axis=0), resamples=400, seed=number)
        crossed_hits += pooled.low <= 0 <= pooled.high
        problems_hits += only_problems.low <= 0 <= only_problems.high
    assert crossed_hits / 150 >= 0.87
    assert problems_hits / 150 <= 0.70


def test_identical_groups_of_one_seed_differ_by_exactly_nothing():
    values = np.random.default_rng(1).random((1, 80))
    difference = crossed({"grpo": values, "copy": values.copy()}, baseline="grpo")["copy"].difference
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_problems_are_shared_so_a_constant_gain_is_certain():
    values = np.random.default_rng(1).random((1, 80))
    compared = crossed({"grpo": values, "better": values + 0.05}, baseline="grpo")
    difference = compared["better"].difference
    assert difference.low == pytest.approx(0.05)
    assert difference.high == pytest.approx(0.05)
    assert compared["better"].mean.high - compared["better"].mean.low > 0.08  # unpaired, the gain would be invisible
    assert compared["grpo"].difference is None


def test_seeds_are_drawn_for_each_group_on_its_own():
    levels = np.arange(4.0)[:, None] + np.zeros((1, 30))  # all variation is between seeds
    difference = crossed({"grpo": levels, "copy": levels.copy()}, baseline="grpo")["copy"].difference
    assert difference.value == 0.0
    # Var(mean of 4 draws) = 1.25 / 4 for each group, twice that for the difference of two independent ones.
    assert difference.high == pytest.approx(1.96 * np.sqrt(2 * 1.25 / 4), rel=0.1)


def test_groups_may_have_different_numbers_of_seeds_and_do_not_disturb_each_other():
    random = np.random.default_rng(2)
    one, three = random.random((1, 50)), random.random((3, 50))
    alone = crossed({"three": three})["three"].mean
    together = crossed({"base": one, "three": three}, baseline="base")["three"]
    assert together.mean == alone
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
def test_what_cannot_be_compared_is_refused(groups, baseline, message):
    with pytest.raises(ValueError, match=message):
        crossed(groups, baseline=baseline)


def test_the_methods_say_what_was_done():
    assert bootstrap.problems_method() == "percentile bootstrap over problems, 95 %, 10000 resamples, seed 0"
    assert "crossed" in bootstrap.crossed_method(resamples=7, seed=5)
    assert "7 resamples, seed 5" in bootstrap.crossed_method(resamples=7, seed=5)


def test_p_is_one_without_a_difference_and_smallest_for_a_certain_one():
    values = np.random.default_rng(0).random((1, 30))
    groups = {"a": values, "same": values, "more": values + 1, "less": values - 1}
    result = crossed(groups, baseline="a", resamples=999)
    assert result["a"].p is None
    assert result["same"].p == 1.0
    assert result["more"].p == result["less"].p == 2 / 1000


def test_p_of_no_difference_is_below_a_level_about_that_often():
    random = np.random.default_rng(1)
    below = 0
    for _ in range(300):
        problems = random.normal(size=40)
        groups = {name: (problems + random.normal(size=40))[None, :] for name in "ab"}
        below += crossed(groups, baseline="a", resamples=500)["b"].p <= 0.1
    assert 0.05 < below / 300 < 0.16
