"""ARM against an independent reference in plain Python, and properties of its formula."""

import math
from dataclasses import dataclass

import arm_reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from progrpo_cli.methods.arm import (
    Reweighted,
    confidence,
    open_groups,
    prompt_token_mask,
    reweight,
    sign_flips,
)
from progrpo_cli.methods.base import ArmConfig, group_relative

RHO = st.sampled_from([0.01, 0.07, 0.2, 0.25, 0.5, 0.99, 1.0])
# -0.5 is repeated to make ties, often at the border of T_low. NaN means that vLLM could not score the token.
TOKEN = st.one_of(st.floats(-30, 0, width=32), st.sampled_from([0.0, -0.5, -0.5, -0.5, math.nan]))
REWARDS = {
    "all right": st.just(1.0),
    "all wrong": st.just(0.0),
    "mixed": st.sampled_from([0.0, 1.0]),
    "some not scored": st.sampled_from([0.0, 1.0, math.nan]),
}


@dataclass
class Group:
    """One prompt with its completions, as log-probabilities under the policy that sampled."""

    prompt: list[float]
    """Log-probability of each prompt token. The first is NaN because it has no prediction."""
    completions: list[list[float]]
    """Log-probabilities of the tokens. An empty list is a truncated completion whose mask is zero."""
    rewards: list[float]


@st.composite
def groups(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(REWARDS)) -> list[Group]:
    size = draw(st.integers(2, 5))
    batch = []
    for _ in range(draw(st.integers(1, 3))):
        prompt = draw(st.lists(st.floats(-30, 0, width=32), min_size=0, max_size=39))
        completions = st.lists(TOKEN, min_size=draw(st.sampled_from([0, 1])), max_size=40)
        batch.append(
            Group(
                [math.nan, *prompt],
                [draw(completions) for _ in range(size)],
                [draw(REWARDS[draw(st.sampled_from(kinds))]) for _ in range(size)],
            )
        )
    return batch


ARM = st.builds(
    ArmConfig,
    alpha=st.sampled_from([0.0, 0.3, 1.0, -1.0]),
    low_fraction=RHO,
    prompt_low_fraction=RHO,
    gate=st.sampled_from(["any_correct", "mixed"]),
    scope=st.sampled_from(["all", "correct"]),
)


def pad(rows: list[list[float]], width: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as one tensor with its mask. The padding is 7, which must have no effect."""
    values, mask = torch.full((len(rows), width), 7.0), torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        columns = slice(width - len(row), width) if left else slice(0, len(row))
        values[index, columns] = torch.tensor(row)
        mask[index, columns] = 1
    return values, mask


def apply_arm(batch: list[Group], arm: ArmConfig, padding: int = 0) -> tuple[torch.Tensor, Reweighted]:
    """A and ARM's result of a batch by the package's functions, with TRL's padding: prompts left, completions right."""
    size = len(batch[0].completions)
    prompts = [group.prompt for group in batch for _ in range(size)]
    completions = [row for group in batch for row in group.completions]
    prompt_logps, prompt_mask = pad(prompts, max(map(len, prompts)) + padding, left=True)
    logps, mask = pad(completions, max(map(len, completions)) + padding + 1, left=False)
    rewards = torch.tensor([group.rewards for group in batch])
    advantages = group_relative(rewards).flatten()
    correct = rewards == 1
    result = reweight(
        advantages,
        confidence(prompt_logps[:, 1:], prompt_token_mask(prompt_mask), arm.prompt_low_fraction),
        confidence(logps, mask, arm.low_fraction),
        correct=correct.flatten(),
        scorable=~torch.isnan(rewards).flatten(),
        gate_open=open_groups(correct, arm.gate).repeat_interleave(size),
        arm=arm,
    )
    return advantages, result


def apply_reference(group: Group, arm: ArmConfig) -> tuple[list[float], list[float]]:
    """A and A~ of a group by the reference implementation."""
    advantages = arm_reference.group_advantages(group.rewards)
    c_q = arm_reference.prompt_confidence(group.prompt, arm.prompt_low_fraction)
    c_o = [arm_reference.confidence(row, arm.low_fraction) for row in group.completions]
    options = {"alpha": arm.alpha, "gate": arm.gate, "scope": arm.scope}
    return advantages, arm_reference.reweight(advantages, [c_q] * len(c_o), c_o, group.rewards, **options)


@settings(max_examples=150, deadline=None)
@given(groups(), ARM)
def test_arm_equals_the_reference(batch: list[Group], arm: ArmConfig) -> None:
    advantages, result = apply_arm(batch, arm)
    expected = [apply_reference(group, arm) for group in batch]
    assert advantages.tolist() == pytest.approx([a for pair in expected for a in pair[0]], abs=1e-4)
    assert result.advantages.tolist() == pytest.approx([a for pair in expected for a in pair[1]], abs=1e-4)
    assert torch.equal(result.advantages[~result.shifted], advantages[~result.shifted])
    assert torch.equal(result.advantages, advantages + result.shift)
    if arm.alpha == 0:
        assert torch.equal(result.advantages, advantages)


@settings(max_examples=50, deadline=None)
@given(groups(), ARM, st.integers(1, 9))
def test_more_padding_changes_nothing(batch: list[Group], arm: ArmConfig, padding: int) -> None:
    (_, plain), (_, wider) = apply_arm(batch, arm), apply_arm(batch, arm, padding)
    assert torch.equal(plain.shifted, wider.shifted)
    assert torch.allclose(plain.advantages, wider.advantages, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(groups(), ARM, st.randoms())
def test_permuting_a_group_permutes_its_advantages(batch: list[Group], arm: ArmConfig, random: object) -> None:
    order = list(range(len(batch[0].completions)))
    random.shuffle(order)
    other = [Group(g.prompt, [g.completions[i] for i in order], [g.rewards[i] for i in order]) for g in batch]
    shape = (len(batch), len(order))
    _, plain = apply_arm(batch, arm)
    _, permuted = apply_arm(other, arm)
    assert torch.equal(plain.shifted.view(shape)[:, order], permuted.shifted.view(shape))
    assert torch.allclose(plain.advantages.view(shape)[:, order], permuted.advantages.view(shape), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(groups(kinds=("all wrong",)), ARM)
def test_a_group_that_is_all_wrong_keeps_its_advantages(batch: list[Group], arm: ArmConfig) -> None:
    advantages, result = apply_arm(batch, arm)
    assert torch.equal(result.advantages, advantages)


@settings(max_examples=50, deadline=None)
@given(groups(kinds=("all right",)), ARM)
def test_a_group_that_is_all_right_is_shifted_unless_the_gate_is_mixed(batch: list[Group], arm: ArmConfig) -> None:
    advantages, result = apply_arm(batch, arm)
    assert not advantages.any()  # A = 0, so the shift is all there is
    if arm.gate == "mixed":
        assert torch.equal(result.advantages, advantages)
    else:
        has_both = [
            len(group.prompt) > 1 and not all(map(math.isnan, row)) for group in batch for row in group.completions
        ]
        assert result.shifted.tolist() == has_both


@settings(max_examples=50, deadline=None)
@given(groups(), ARM.filter(lambda arm: arm.scope == "correct"))
def test_with_scope_correct_wrong_samples_keep_their_advantages(batch: list[Group], arm: ArmConfig) -> None:
    advantages, result = apply_arm(batch, arm)
    wrong = torch.tensor([group.rewards for group in batch]).flatten() != 1
    assert torch.equal(result.advantages[wrong], advantages[wrong])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(TOKEN, min_size=0, max_size=40), min_size=1, max_size=6), RHO)
def test_confidence_equals_the_reference_and_is_in_0_to_1(logps: list[list[float]], rho: float) -> None:
    values, mask = pad(logps, max(map(len, logps)) + 1, left=False)
    for value, row in zip(confidence(values, mask, rho).tolist(), logps, strict=True):
        expected = arm_reference.confidence(row, rho)
        assert value == pytest.approx(expected, rel=1e-5, nan_ok=True)
        assert math.isnan(value) or 0 < value <= 1


def test_confidence_carries_no_gradient() -> None:
    logps = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    assert not confidence(logps, torch.ones(1, 2), 0.5).requires_grad


@pytest.mark.parametrize(("length", "count"), [(1, 1), (4, 1), (5, 1), (6, 2), (10, 2), (15, 3), (16, 4)])
def test_t_low_has_the_ceiling_of_its_share(length: int, count: int) -> None:
    logps = -torch.arange(1.0, length + 1).unsqueeze(0)
    expected = math.exp(-sum(range(length, length - count, -1)) / count)
    assert confidence(logps, torch.ones(1, length), 0.2).item() == pytest.approx(expected)


def test_the_first_real_prompt_token_has_no_prediction() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    assert prompt_token_mask(mask).tolist() == [[False, False, True, True], [True, True, True, True]]


def test_an_example_worked_by_hand() -> None:
    """A group of four with one right: mean 1/4, std sqrt((9 + 3) / 16 / 3) = 1/2, A = 3/4 / 0.5001, -1/4 / 0.5001.

    The prompt's tokens 2 and 3 have p = 0.8 and 0.2, so c(q) = sqrt(0.16) = 0.4. Completions have two tokens and rho is
    0.5, so c(o|q) is the probability of the less likely token. With alpha = 2 the shift is 2 (0.4 - c(o|q)).
    """
    log = math.log
    group = Group(
        [math.nan, log(0.8), log(0.2)],
        [[log(0.9), log(0.5)], [log(0.1), log(0.9)], [log(0.4), log(0.4)], [log(0.3), log(1.0)]],
        [1.0, 0.0, 0.0, 0.0],
    )
    arm = ArmConfig(alpha=2.0, low_fraction=0.5)
    _, result = apply_arm([group], arm)
    assert result.shift.tolist() == pytest.approx([-0.2, 0.6, 0.0, 0.2], abs=1e-6)
    assert result.advantages.tolist() == pytest.approx([1.4997 - 0.2, -0.4999 + 0.6, -0.4999, -0.4999 + 0.2], abs=1e-4)
    assert sign_flips(torch.tensor([1.4997, -0.4999, -0.4999, -0.4999]), result.advantages).item() == 1


def test_sign_flips_count_crossings_of_zero_only() -> None:
    before = torch.tensor([-0.25, 0.5, 0.0, -1.0, 1.0])
    after = torch.tensor([0.10, -0.1, 0.4, -0.5, 0.0])
    assert sign_flips(before, after).item() == 2
