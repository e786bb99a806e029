"""ARM against an independent reference in plain Python, written from the equations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from progrpo_cli.methods.arm import confidence, open_groups, prompt_token_mask, reweight, sign_flips
from progrpo_cli.methods.base import ArmConfig


def arm_config(**changes: object) -> ArmConfig:
    defaults = {"alpha": 1.0, "low_fraction": 0.2, "prompt_low_fraction": 1.0, "gate": "any_correct", "scope": "all"}
    return ArmConfig(**{**defaults, **changes})


def reference_confidence(logps: list[float], rho: float) -> float:
    """c over the ceil(rho * |o|) least likely tokens."""
    scored = sorted(value for value in logps if not math.isnan(value))
    if not scored:
        return math.nan
    size = max(1, math.ceil(round(rho * len(scored), 9)))
    return math.exp(sum(scored[:size]) / size)


def reference_advantages(
    advantages: list[float], c_q: list[float], c_o: list[float], rewards: list[float], arm: ArmConfig
) -> list[float]:
    """A~ of one group."""
    right = [reward == 1 for reward in rewards]
    is_open = any(right) and (arm.gate == "any_correct" or not all(right))
    result = []
    for a, q, o, r, reward in zip(advantages, c_q, c_o, right, rewards, strict=True):
        reached = is_open and (arm.scope == "all" or r) and not math.isnan(reward) and not math.isnan(q - o)
        result.append(a + arm.alpha * (q - o) if reached else a)
    return result


tokens = st.one_of(st.floats(-30, 0), st.sampled_from([0.0, -0.5, -0.5, math.nan]))
rows = st.lists(st.lists(tokens, min_size=0, max_size=40), min_size=1, max_size=6)


@given(rows, st.sampled_from([0.01, 0.07, 0.2, 0.25, 0.5, 0.99, 1.0]), st.integers(0, 5))
def test_confidence_is_the_reference_on_padded_rows(logps: list[list[float]], rho: float, padding: int) -> None:
    width = max(len(row) for row in logps) + padding
    if width == 0:
        return
    padded = torch.full((len(logps), width), 7.0)  # what stands in the padding must not matter
    mask = torch.zeros(len(logps), width, dtype=torch.long)
    for index, row in enumerate(logps):
        padded[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    found = confidence(padded, mask, rho)
    for value, row in zip(found.tolist(), logps, strict=True):
        expected = reference_confidence([float(torch.tensor(x)) for x in row], rho)
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-12, nan_ok=True)
        assert math.isnan(value) or 0 <= value <= 1


def test_confidence_carries_no_gradient() -> None:
    logps = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    assert not confidence(logps, torch.ones(1, 2), 0.5).requires_grad


@pytest.mark.parametrize(("length", "taken"), [(1, 1), (4, 1), (5, 1), (6, 2), (10, 2), (15, 3), (16, 4)])
def test_t_low_counts_the_ceiling(length: int, taken: int) -> None:
    logps = -torch.arange(1.0, length + 1).unsqueeze(0)
    expected = math.exp(-sum(range(length, length - taken, -1)) / taken)
    assert confidence(logps, torch.ones(1, length), 0.2).item() == pytest.approx(expected)


def test_the_first_real_prompt_token_has_no_prediction() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    assert prompt_token_mask(mask).tolist() == [[False, False, True, True], [True, True, True, True]]


@settings(max_examples=200)
@given(st.data())
def test_reweighting_is_the_reference(data: st.DataObject) -> None:
    groups, size = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 5))
    count = groups * size
    some = lambda strategy: data.draw(st.lists(strategy, min_size=count, max_size=count))  # noqa: E731
    rewards = some(st.sampled_from([0.0, 1.0, math.nan]))
    advantages = some(st.floats(-3, 3, width=32))
    c_q, c_o = some(st.floats(0, 1, width=32)), some(st.one_of(st.floats(0, 1, width=32), st.just(math.nan)))
    arm = arm_config(
        alpha=data.draw(st.sampled_from([0.0, 0.3, 1.0, -1.0])),
        gate=data.draw(st.sampled_from(["any_correct", "mixed"])),
        scope=data.draw(st.sampled_from(["all", "correct"])),
    )
    reward = torch.tensor(rewards)
    correct = reward > 0
    gate_open = open_groups(correct.view(groups, size), arm.gate).repeat_interleave(size)
    result = reweight(
        torch.tensor(advantages),
        torch.tensor(c_q),
        torch.tensor(c_o),
        correct=correct,
        scorable=~torch.isnan(reward),
        gate_open=gate_open,
        arm=arm,
    )
    expected = []
    for start in range(0, count, size):
        here = slice(start, start + size)
        expected += reference_advantages(advantages[here], c_q[here], c_o[here], rewards[here], arm)
    assert result.advantages.tolist() == pytest.approx(expected, abs=1e-6)
    untouched = ~result.shifted
    assert torch.equal(result.advantages[untouched], torch.tensor(advantages)[untouched])
    if arm.alpha == 0:
        assert torch.equal(result.advantages, torch.tensor(advantages))


def test_sign_flips_count_crossings_of_zero_only() -> None:
    before = torch.tensor([-0.25, 0.5, 0.0, -1.0, 1.0])
    after = torch.tensor([0.10, -0.1, 0.4, -0.5, 0.0])
    assert sign_flips(before, after).item() == 2
