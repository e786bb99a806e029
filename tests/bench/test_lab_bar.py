"""The confidence interval of the lab's bar."""

import lab_bar
import numpy as np
import pytest


def test_the_best_temperature_is_chosen_in_each_resample() -> None:
    rng = np.random.default_rng(0)
    base = rng.binomial(64, 0.4, (7, 300)) / 64  # seven temperatures that differ by luck alone
    policy = rng.binomial(64, 0.6, 300) / 64
    low, high = lab_bar.gain_interval(policy, base, np.random.default_rng(1))
    best = base.mean(1).argmax()
    fixed_low, fixed_high = lab_bar.gain_interval(policy, base[[best]], np.random.default_rng(1))
    assert low < fixed_low
    assert high < fixed_high
    gain = policy.mean() - base.mean(1).max()
    assert low < gain < high


def test_a_gain_that_is_the_same_on_every_problem_has_no_interval() -> None:
    rates = np.linspace(0, 0.5, 50)
    low, high = lab_bar.gain_interval(rates + 0.1, rates[None], np.random.default_rng(0))
    assert (low, high) == pytest.approx((0.1, 0.1))
