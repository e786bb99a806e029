import numpy as np
import pytest

from progrpo_cli.metrics.entropy import topk_entropy


def test_the_entropy_lies_within_the_bounds_and_all_tokens_give_it_exactly():
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (200, 50))
    logps = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    entropy = -(np.exp(logps) * logps).sum(axis=1)
    ordered = -np.sort(-logps, axis=1)
    for k in (1, 5, 20, 49):
        bounds = topk_entropy(ordered[:, :k], 50)
        assert (bounds.entropy <= entropy + 1e-12).all()
        assert (entropy <= bounds.at_most + 1e-12).all()
        assert bounds.missing_mass == pytest.approx(1 - np.exp(ordered[:, :k]).sum(axis=1))
    exact = topk_entropy(ordered, 50)
    assert exact.entropy == pytest.approx(entropy)
    assert exact.at_most == pytest.approx(entropy)
    assert (exact.missing_mass == 0).all()


def test_the_upper_bound_is_reached_where_the_other_tokens_are_alike():
    logps = np.log(np.array([[0.4, 0.3]]))  # and 0.3 over three others
    bounds = topk_entropy(logps, 5)
    whole = [0.4, 0.3, 0.1, 0.1, 0.1]
    assert bounds.at_most[0] == pytest.approx(-sum(p * np.log(p) for p in whole))


def test_tokens_that_cannot_be_drawn_count_nothing():
    bounds = topk_entropy(np.array([[0.0, -np.inf]]), 10)
    assert (bounds.entropy[0], bounds.missing_mass[0], bounds.at_most[0]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("k", [0, 6])
def test_k_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match="1 <= k <= V"):
        topk_entropy(np.zeros((1, k)), 5)
