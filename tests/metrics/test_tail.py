"""p values beyond the draws, compared with exact tests."""

import math

import numpy as np
import pytest

from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed_bootstrap
from progrpo_cli.metrics.holm import holm
from progrpo_cli.metrics.student import upper_tail
from progrpo_cli.metrics.tail import MIN_P


def _p(one, other, **options):
    groups = {"one": one, "other": other}
    return crossed_bootstrap(groups, baseline="one", policies=groups, **options)["other"].p


@pytest.mark.parametrize("t", [2.0, 3.0, 4.0, 5.0])
def test_p_is_that_of_the_paired_t_test_for_normal_values(t):
    values = np.random.default_rng(0).normal(size=200)
    values = (values - values.mean()) / values.std(ddof=1)
    p = _p(np.zeros((1, 200)), (values + t / math.sqrt(200))[None, :])
    exact = 2 * float(upper_tail(t, 199)[0])
    assert exact / 2 < p < exact * 2


@pytest.mark.parametrize("more", [6, 9, 12, 16])
def test_p_is_that_of_the_sign_test_for_problems_that_one_method_alone_solves(more):
    """All ``more`` problems that differ favour one method: the sign test gives 2 x 0.5 ** more."""
    other = np.array([1.0] * more + [0.0] * (200 - more))[None, :]
    exact = 2 * 0.5**more
    assert exact / 4 < _p(np.zeros((1, 200)), other, bounds=PROBABILITY) < exact * 4


@pytest.mark.parametrize(("seeds", "gap"), [(3, 1.0), (3, 5.0), (5, 3.0), (10, 2.0)])
def test_p_is_that_of_welchs_test_if_only_seeds_differ(seeds, gap):
    levels = np.arange(seeds, dtype=float)[:, None] + np.zeros((1, 40))
    spread = levels[:, 0].std(ddof=1)
    p = _p(levels, levels + gap * spread)
    exact = 2 * float(upper_tail(gap / math.sqrt(2 / seeds), 2 * (seeds - 1))[0])
    assert p == pytest.approx(exact, rel=0.15, abs=2e-3 if exact > 5e-3 else 0)


def test_a_certain_difference_has_the_smallest_p():
    values = np.random.default_rng(0).random((2, 50))
    values[1] = values[0]
    assert _p(values, values + 1) == MIN_P


def test_252_certain_differences_reach_any_level_after_holm():
    """Without extrapolation the smallest p, 2 / 10001, times 252 would be 0.0504, above 0.05."""
    random = np.random.default_rng(0)
    problem = random.normal(0.4, 0.05, 100)
    groups = {
        str(number): (problem + number / 50 + random.normal(0, 0.0015, (3, 100))).clip(0, 20) for number in range(85)
    }
    results = crossed_bootstrap(groups, baseline="0")
    p = {(name, metric): result.p for name, result in results.items() if name != "0" for metric in range(3)}
    assert len(p) == 252
    assert max(results["1"].difference.high - results["1"].difference.low, 0) < 0.0015
    assert all(adjusted < 0.01 for adjusted in holm(p).values())
