"""Each method's own function on an example worked by hand from its paper, with the arithmetic in the docstring."""

import math
from itertools import combinations

import pytest
import torch
import yaml

from progrpo_cli.config import paths
from progrpo_cli.methods.base import LossTerms, Method, Rollout, group_relative
from progrpo_cli.methods.passk import passk_advantages
from progrpo_cli.methods.registry import method_classes

NAN = math.nan


def make_method(name: str, **options: object) -> Method:
    """The method with the options of its YAML, changed by ``options``."""
    given = yaml.safe_load((paths.EXPERIMENTS / "method" / f"{name}.yaml").read_text())
    return method_classes()[name].model_validate({**given, **options})


def make_rollout(correct: list[list[int]], **fields: object) -> Rollout:
    """A rollout from the correctness of each completion. The reward is 1 for right, or given as ``rewards``."""
    right = torch.tensor(correct, dtype=torch.bool)
    rewards = torch.tensor(fields.pop("rewards", correct), dtype=torch.float)
    return Rollout(
        correct=right,
        scorable=~torch.isnan(rewards),
        rewards=rewards,
        advantages=group_relative(rewards),
        logps=torch.tensor(fields["logps"]) if "logps" in fields else None,
    )


def make_terms(
    logps: list, old: list, mask: list, advantages: list, clip: tuple[float, float], **fields: list
) -> LossTerms:
    return LossTerms(
        logps=torch.tensor(logps, requires_grad=True),
        old_logps=torch.tensor(old),
        mask=torch.tensor(mask),
        advantages=torch.tensor(advantages),
        clip=clip,
        reference_logps=torch.tensor(fields["reference"]) if "reference" in fields else None,
        log_partition=torch.tensor(fields["log_partition"], requires_grad=True) if "log_partition" in fields else None,
    )


@pytest.mark.parametrize("name", ["grpo", "progrpo", "grpo_classic", "dr_grpo", "gspo", "dapo", "entropy_bonus"])
def test_these_methods_use_trls_advantages_and_surrogate_unchanged(name: str) -> None:
    rollout = make_rollout([[1, 0, 0, 0]])
    assert make_method(name).advantages(rollout) is rollout.advantages
    terms = make_terms([[-1.0]], [[-1.0]], [[1]], [0.5], (0.8, 1.28))
    assert make_method(name).token_advantages(terms) is terms.advantages
    assert make_method(name).token_loss(terms) is None
    assert make_method(name).sequence_loss(terms) is None


def test_group_relative() -> None:
    """Rewards 1 0 0 0: mean 1/4, variance (9/16 + 3 * 1/16) / 3 = 1/4, std 1/2: 3/4 / 0.5001 and -1/4 / 0.5001.

    Rewards 1 0 -, one not scored: mean 1/2, variance 2 * 1/4 / 1 = 1/2, std 0.7071: 0.5 / 0.7072 and its negative.
    """
    actual = group_relative(torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, NAN, NAN], [NAN] * 4]))
    expected = [[1.49970, -0.49990, -0.49990, -0.49990], [0.70701, -0.70701, 0.0, 0.0], [0.0] * 4]
    assert actual.tolist() == [pytest.approx(row, abs=1e-5) for row in expected]


def test_passk_by_hand() -> None:
    """N = 4, k = 2, N- = 3 wrong: R = 1 - C(3,2) / C(4,2) = 1 - 3/6 = 1/2, s = sqrt(1/2 * 1/2) = 1/2.

    A+ = (1 - 1/2) / (1/2) = 1. A- = (1 - 1/2 - C(2,1) / C(3,1)) / (1/2) = (1/2 - 2/3) / (1/2) = -1/3.
    N- = 2: R = 1 - 1/6 = 5/6, s = sqrt(5/36) = 0.372678. A+ = (1/6) / s = 0.447214,
    A- = (1/6 - C(1,1) / C(3,1)) / s = (1/6 - 1/3) / s = -0.447214.
    N- = 1: each pair has a right sample, so R = 1, s = 0 and all advantages are 0, that of the wrong sample too.
    """
    assert passk_advantages(3, 4, 2) == pytest.approx((1.0, -1 / 3))
    assert passk_advantages(2, 4, 2) == pytest.approx((0.447214, -0.447214), abs=1e-6)
    assert [passk_advantages(wrong, 4, 2) for wrong in (0, 1, 4)] == [(0.0, 0.0)] * 3
    actual = make_method("passk", k=2).advantages(
        make_rollout([[0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]])
    )
    expected = [[-1 / 3, 1.0, -1 / 3, -1 / 3], [0.447214, 0.447214, -0.447214, -0.447214], [0.0] * 4, [0.0] * 4]
    assert actual.tolist() == [pytest.approx(row, abs=1e-6) for row in expected]


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [6, 7])
def test_passk_is_the_mean_over_all_subsets(size: int, k: int) -> None:
    for wrong in range(size + 1):
        scores = {subset: float(max(subset) >= wrong) for subset in combinations(range(size), k)}
        centre = sum(scores.values()) / len(scores)
        deviation = math.sqrt(sum((score - centre) ** 2 for score in scores.values()) / len(scores))
        for sample, index in ((size - 1, 0), (0, 1)):  # samples below `wrong` are wrong: the last is right, if any
            if (sample >= wrong) != (index == 0) or deviation == 0:
                continue
            normalised = [(score - centre) / deviation for subset, score in scores.items() if sample in subset]
            expected = sum(normalised) / len(normalised)
            assert passk_advantages(wrong, size, k)[index] == pytest.approx(expected, abs=1e-12)


def test_w_reinforce() -> None:
    """lambda = 0.1 for right, -1 for wrong in any group, 0 for a sample without a score."""
    given = make_rollout([[1, 0], [0, 0], [1, 1]], rewards=[[1.0, 0.0], [0.0, NAN], [1.0, 1.0]])
    expected = [[0.1, -1.0], [-1.0, 0.0], [0.1, 0.1]]
    assert make_method("w_reinforce").advantages(given).tolist() == [pytest.approx(row) for row in expected]


def test_unlikeliness() -> None:
    """G = 4, beta = 0.25. log pi(o|q): -3 -1 -2 -4, ranks 2 0 1 3. Samples 0 1 3 are right.

    Rewards 1 - 0.25 (4 - rank) / 4: 1 - 0.25 * 2/4 = 0.875; 1 - 0.25 * 4/4 = 0.75; 0; 1 - 0.25 * 1/4 = 0.9375.
    Mean 2.5625 / 4 = 0.640625; squares of 0.234375 0.109375 -0.640625 0.296875: 0.054932 0.011963 0.410400 0.088135,
    sum 0.565430, / 3 = 0.188477, std 0.434139. A = 0.53974 0.25188 -1.47528 0.68367 (over std + 1e-4).
    """
    given = make_rollout([[1, 1, 0, 1]], logps=[[-3.0, -1.0, -2.0, -4.0]])
    actual = make_method("unlikeliness").advantages(given)[0].tolist()
    assert actual == pytest.approx([0.53974, 0.25188, -1.47528, 0.68367], abs=1e-5)


def test_unlikeliness_skips_groups_that_are_all_right_unless_keep_all_right_is_set() -> None:
    """G = 2, both right, the second likelier: rewards 1 - 0.25 * 1/2 = 0.875 and 0.75, A = +-0.0625 / (0.08839 + 1e-4).

    A sample without a score does not count for its group. A group that is all wrong has the advantage 0.
    """
    given = make_rollout(
        [[1, 1], [1, 0], [0, 0]], rewards=[[1.0, 1.0], [1.0, NAN], [0.0, 0.0]], logps=[[-3.0, -1.0]] * 3
    )
    assert not make_method("unlikeliness").advantages(given).any()
    kept = make_method("unlikeliness", keep_all_right=True).advantages(given)
    assert kept.tolist() == [pytest.approx([0.70632, -0.70632], abs=1e-4), [0.0, 0.0], [0.0, 0.0]]


def test_clip_cov_runs_without_ppos_clip() -> None:
    assert (make_method("clip_cov").clip_low, make_method("clip_cov").clip_high) == (None, None)


def test_overlong_shaping() -> None:
    """L_max = 20, L_cache = 0.2 * 20 = 4: zero up to 16 tokens, then linear to -0.5 at 20."""
    length = make_method("dapo").length_reward(20)
    assert [length(tokens) for tokens in (1, 16, 17, 18, 20)] == pytest.approx([0.0, 0.0, -0.125, -0.25, -0.5])
    assert make_method("dapo", overlong_cache_fraction=None).length_reward(20) is None
    assert make_method("grpo").length_reward(20) is None


# Two completions, of three tokens and of one. log p: -1 -2 -3 and -2, mean -2; A = 2 and -1, the mean over TOKENS
# (3 * 2 - 1) / 4 = 1.25. Cov = (log p + 2)(A - 1.25): 1 * 0.75, 0, -1 * 0.75, 0 * -2.25.
COVARIANCE = {
    "logps": [[-1.0, -2.0, -3.0], [-2.0, 0.0, 0.0]],
    "mask": [[1, 1, 1], [1, 0, 0]],
    "advantages": [2.0, -1.0],
}


def test_kl_cov() -> None:
    """A quarter of the 4 tokens is the one with Cov 0.75: kl_coef |log pi - log pi_old| = 1 * |-1 - -1.5| = 0.5.

    0.99 of 4 is 3 tokens: also the two with Cov 0, whose log-ratio is 0, but not the last (-0.75).
    """
    given = make_terms(**COVARIANCE, old=[[-1.5, -2.0, -2.0], [-2.0, 0.0, 0.0]], clip=(0.0, 1e9))
    loss = make_method("kl_cov", fraction=0.25).token_loss(given)
    assert loss.tolist() == [[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]
    loss.sum().backward()
    assert given.logps.grad.tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    both = make_method("kl_cov", fraction=0.99, kl_coef=2.0).token_loss(given)
    assert both[0].tolist() == [1.0, 0.0, 0.0]


def test_clip_cov() -> None:
    """Only the first token has Cov in [0.5, 1]. Its ratio exp(-1 - -1.1) = 1.105 is not clipped: its advantage is 0.

    With pi_old = exp(-1.5) the ratio is 1.65 > 1.28 and A > 0: it is clipped already and so not a candidate.
    """
    options = {"low": 0.5, "high": 1.0, "fraction": 0.25}
    old = [[-1.1, -2.0, -3.0], [-2.0, 0.0, 0.0]]
    actual = make_method("clip_cov", **options).token_advantages(make_terms(**COVARIANCE, old=old, clip=(0.8, 1.28)))
    assert actual.tolist() == [[0.0, 2.0, 2.0], [-1.0, -1.0, -1.0]]
    old[0][0] = -1.5
    actual = make_method("clip_cov", **options).token_advantages(make_terms(**COVARIANCE, old=old, clip=(0.8, 1.28)))
    assert actual.tolist() == [[2.0, 2.0, 2.0], [-1.0, -1.0, -1.0]]


def test_clip_cov_draws_a_fraction_of_all_tokens_from_the_candidates() -> None:
    """Half of the 100 tokens are candidates. Each draw takes 0.07 * 100 = 7 of them, and two draws differ."""
    logps = [
        [-1.0] * 25 + [-3.0] * 25
    ] * 2  # mean -2, A = 1 and -1: Cov = 1 for the first half of row 1, the second of 2
    given = make_terms(logps, logps, [[1] * 50] * 2, [1.0, -1.0], (0.8, 1.28))
    clip_cov = make_method("clip_cov", fraction=0.07, low=1.0)
    chosen = [clip_cov.token_advantages(given) == 0 for _ in range(2)]
    assert [tokens.sum().item() for tokens in chosen] == [7, 7]
    assert not torch.equal(*chosen)
    assert not any((tokens[0, 25:].any() or tokens[1, :25].any()) for tokens in chosen)
    assert clip_cov.metrics(given)["candidate_fraction"].item() == 0.5


def test_flowrl() -> None:
    """Row 1: |o| = 2, log pi -1 -3, log pi_ref -2 -3, log pi_old -1.5 -3, r^ = 0.1, log Z = 0.5, beta = 15.

    Residual 0.5 + (-4) / 2 - 15 * 0.1 - (-5) / 2 = -0.5; w = exp(-4 - -4.5) = 1.6487, clipped to 1.28.
    Loss 1.28 * 0.25 = 0.32; its slope by log Z is 1.28 * 2 * -0.5 = -1.28, by each log pi half of that.
    Row 2: |o| = 1, log pi -2, log pi_ref -1, log pi_old -2, r^ = 0, log Z = 0: residual -2 + 1 = -1, w = 1, loss 1.
    """
    given = make_terms(
        [[-1.0, -3.0], [-2.0, 0.0]],
        old=[[-1.5, -3.0], [-2.0, 0.0]],
        mask=[[1, 1], [1, 0]],
        advantages=[0.1, 0.0],
        clip=(0.8, 1.28),
        reference=[[-2.0, -3.0], [-1.0, 0.0]],
        log_partition=[0.5, 0.0],
    )
    flowrl = make_method("flowrl")
    loss = flowrl.sequence_loss(given)
    assert loss.tolist() == pytest.approx([0.32, 1.0])
    loss.sum().backward()
    assert given.log_partition.grad.tolist() == pytest.approx([-1.28, -2.0])
    assert given.logps.grad.flatten().tolist() == pytest.approx([-0.64, -0.64, -2.0, 0.0])
    assert not flowrl.token_advantages(given).any(), "there must be no surrogate"
    metrics = flowrl.metrics(given)
    assert metrics["residual"].item() == pytest.approx(0.75)
    assert metrics["clip_ratio/high_mean"].item() == 0.5
    # With the |o|-th root w = exp(0.5 / 2) = 1.2840, which 1.28 clips too; at 1.3 it would not.
    root = make_terms(
        [[-1.0, -3.0]],
        old=[[-1.5, -3.0]],
        mask=[[1, 1]],
        advantages=[0.1],
        clip=(0.8, 1.3),
        reference=[[-2.0, -3.0]],
        log_partition=[0.5],
    )
    actual = make_method("flowrl", ratio="length_normalised").sequence_loss(root)
    assert actual.item() == pytest.approx(math.exp(0.25) * 0.25)


def test_flowrls_head_is_a_three_layer_mlp_of_the_models_width() -> None:
    head, learning_rate = make_method("flowrl", head_learning_rate=0.5).head(8)
    shapes = [tuple(parameter.shape) for name, parameter in head.named_parameters() if parameter.ndim == 2]
    assert shapes == [(8, 8), (8, 8), (1, 8)]
    assert learning_rate == 0.5
    assert head(torch.zeros(3, 8)).shape == (3, 1)
