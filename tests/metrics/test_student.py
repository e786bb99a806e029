import math

import pytest

from progrpo_cli.metrics.student import quantile, upper_tail


@pytest.mark.parametrize("t", [-3.0, 0.0, 0.5, 4.0, 40.0, 4000.0])
def test_one_and_two_degrees_of_freedom_are_the_closed_forms(t):
    one_degree = 0.5 - math.atan(t) / math.pi if t < 10 else math.atan(1 / t) / math.pi
    root = math.sqrt(2 + t * t)
    two_degrees = 1 / (root * (root + t))  # (1 - t / root) / 2 without its cancellation
    assert upper_tail(t, 1)[0] == pytest.approx(one_degree, rel=1e-6)
    assert upper_tail(t, 2)[0] == pytest.approx(two_degrees, rel=1e-6)


def test_quantiles_are_those_of_printed_tables():
    for level, df, printed in [(0.975, 1, 12.706), (0.975, 4, 2.776), (0.975, 29, 2.045), (0.999, 10, 4.144)]:
        assert quantile(level, df) == pytest.approx(printed, abs=6e-4)
        assert quantile(1 - level, df) == pytest.approx(-printed, abs=6e-4)
    assert upper_tail(quantile(1 - 1e-7, 2.7), 2.7)[0] == pytest.approx(1e-7, rel=1e-3)


def test_many_degrees_of_freedom_are_the_normal():
    for z in (0.0, 1.0, 5.0, 8.0):
        assert upper_tail(z, 1e7)[0] == pytest.approx(math.erfc(z / math.sqrt(2)) / 2, rel=1e-3)
