from fractions import Fraction
from itertools import combinations
from math import prod

import numpy as np
import pytest

from progrpo_cli.metrics.passk import pass_at_k, pass_at_k_per_problem


def _by_enumeration(n: int, correct: int, k: int) -> float:
    """The definition: the share of k-subsets of n samples that contain a correct one."""
    subsets = list(combinations([True] * correct + [False] * (n - correct), k))
    return sum(any(subset) for subset in subsets) / len(subsets)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_equals_the_enumeration_of_all_subsets(n):
    for correct in range(n + 1):
        for k in range(1, n + 1):
            assert pass_at_k(n, correct, k) == pytest.approx(_by_enumeration(n, correct, k), abs=1e-15)


def test_random_tables_agree_with_an_independent_product_of_fractions():
    """The probability of k wrong draws without replacement: (n - c) / n, then (n - c - 1) / (n - 1), and so on."""
    random = np.random.default_rng(3)
    for _ in range(40):
        n = random.integers(1, 300, size=20)
        correct = np.array([random.integers(0, most + 1) for most in n])
        k = int(random.integers(1, n.min() + 1))
        missed = [
            prod((Fraction(max(0, int(a - c) - i), int(a) - i) for i in range(k)), start=Fraction(1))
            for a, c in zip(n, correct, strict=True)
        ]
        assert pass_at_k_per_problem(n, correct, k).tolist() == [float(1 - chance) for chance in missed]


def test_it_is_unbiased_where_the_plug_in_estimate_is_not():
    """The mean over many tables of n = 8 samples with chance 0.2 is 1 - 0.8 ** 4."""
    correct = np.random.default_rng(1).binomial(8, 0.2, size=200_000)
    unbiased = pass_at_k_per_problem(np.full(200_000, 8), correct, 4).mean()
    plugged_in = (1 - (1 - correct / 8) ** 4).mean()
    assert unbiased == pytest.approx(1 - 0.8**4, abs=0.003)
    assert plugged_in < 1 - 0.8**4 - 0.03


def test_no_correct_sample_is_zero_and_all_correct_is_one():
    assert [pass_at_k(64, 0, k) for k in (1, 32, 64)] == [0.0, 0.0, 0.0]
    assert [pass_at_k(64, 64, k) for k in (1, 32, 64)] == [1.0, 1.0, 1.0]


def test_large_n_neither_overflows_nor_cancels():
    assert pass_at_k(4096, 1, 2048) == 0.5  # exactly: k/n for one correct sample
    assert pass_at_k(10**6, 1, 1) == 1e-6


@pytest.mark.parametrize(
    ("n", "correct", "k", "message"),
    [(16, 3, 32, "n >= 32"), (16, 3, 0, "at least 1"), (16, 17, 1, "impossible"), (16, -1, 1, "impossible")],
)
def test_impossible_requests_are_refused(n, correct, k, message):
    with pytest.raises(ValueError, match=message):
        pass_at_k(n, correct, k)


def test_per_problem_gives_the_scalar_values_in_order():
    n = np.array([8, 8, 16, 8, 16])
    correct = np.array([3, 0, 3, 3, 16])
    expected = [pass_at_k(int(a), int(b), 4) for a, b in zip(n, correct, strict=True)]
    assert pass_at_k_per_problem(n, correct, 4).tolist() == expected


def test_per_problem_refuses_one_problem_with_too_few_samples():
    with pytest.raises(ValueError, match="n >= 9"):
        pass_at_k_per_problem(np.array([16, 8]), np.array([1, 1]), 9)
    with pytest.raises(ValueError, match="must both be"):
        pass_at_k_per_problem(np.array([16, 8]), np.array([1]), 1)
