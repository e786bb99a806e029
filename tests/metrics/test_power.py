import numpy as np
import pytest

from progrpo_cli.metrics import power
from progrpo_cli.metrics.bootstrap import crossed_bootstrap


def _study(random, seeds, problems, *, gain=0.0, seed_sd=0.0, interaction_sd=0.2, difference_sd=0.3):
    """Two methods; the second is better by ``gain`` on average over problems."""
    problem = random.normal(0, 1.0, problems)
    one = problem + random.normal(0, seed_sd, (seeds, 1)) + random.normal(0, interaction_sd, (seeds, problems))
    own = gain + random.normal(0, difference_sd, problems)
    other = problem + own + random.normal(0, seed_sd, (seeds, 1)) + random.normal(0, interaction_sd, (seeds, problems))
    return one, other


def test_variance_components_are_recovered_from_simulated_studies():
    random = np.random.default_rng(0)
    estimates = [power.estimate_components(*_study(random, 8, 400, seed_sd=0.1)) for _ in range(60)]
    assert np.mean([estimate.problem for estimate in estimates]) == pytest.approx(0.3**2, rel=0.05)
    assert np.mean([estimate.seed for estimate in estimates]) == pytest.approx(2 * 0.1**2, rel=0.15)
    assert np.mean([estimate.interaction for estimate in estimates]) == pytest.approx(2 * 0.2**2, rel=0.05)


@pytest.mark.parametrize(
    ("seeds", "problems", "seed_sd"), [(3, 100, 0.0), (3, 60, 0.1), (5, 100, 0.05), (10, 60, 0.15)]
)
def test_the_detectable_difference_is_detected_in_about_80_percent_of_studies(seeds, problems, seed_sd):
    truth = power.Components(0.3**2, 2 * seed_sd**2, 2 * 0.2**2)
    gain = power.detectable_difference(truth, seeds, problems)
    random = np.random.default_rng(seeds)
    detected, studies = 0, 600
    for number in range(studies):
        one, other = _study(random, seeds, problems, gain=gain, seed_sd=seed_sd)
        result = crossed_bootstrap({"one": one, "other": other}, baseline="one", resamples=400, seed=number)["other"]
        detected += result.difference.low > 0
    assert detected / studies == pytest.approx(0.8, abs=0.05)


def test_needed_counts_are_the_smallest_sufficient_ones():
    components = power.Components(0.09, 0.002, 0.08)
    seeds = power.needed_seeds(components, 0.1, 300)
    smallest, smaller = (power.detectable_difference(components, count, 300) for count in (seeds, seeds - 1))
    assert smallest <= 0.1 < smaller
    problems = power.needed_problems(components, 0.1, 10)
    smallest, smaller = (power.detectable_difference(components, 10, count) for count in (problems, problems - 1))
    assert smallest <= 0.1 < smaller
    assert power.needed_problems(components, 0.01, 3) is None  # the seeds alone hide it, whatever the problems
    assert power.needed_seeds(components, 0.001, 300) is None


def test_seed_variance_is_unknown_with_one_seed_but_not_for_a_given_policy():
    random = np.random.default_rng(0)
    one, other = random.random((1, 50)), random.random((3, 50))
    unknown = power.estimate_components(one, other)
    assert unknown.seed is None
    with pytest.raises(ValueError, match="one seed"):
        power.needed_seeds(unknown, 0.1, 300)
    given = power.estimate_components(one, other, policies=(True, False))
    assert given.seed is not None
    assert given.methods == 1
