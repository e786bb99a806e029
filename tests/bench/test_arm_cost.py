"""The benchmarks' own arithmetic, and one whole measurement on a tiny recipe."""

import subprocess
import sys
from pathlib import Path

import _arm_cost
import pytest


def test_a_ratio_is_taken_within_pairs_and_its_interval_over_them() -> None:
    drift = [[1.0, 1.1], [5.0, 5.5], [2.0, 2.2], [9.0, 9.9]]  # a machine that gets slower and faster
    assert _arm_cost.ratio(drift, 2) == pytest.approx((1.1, 1.1, 1.1))
    value, low, high = _arm_cost.ratio([[1.0, 1.0 + spread] for spread in (0.0, 0.1, 0.2, 0.3, 0.4)], 1)
    assert value == pytest.approx(1.2)
    assert 1.0 <= low < 1.2 < high <= 1.4


@pytest.mark.parametrize(("after", "verdict"), [(1.01, "yes"), (1.2, "no")])
def test_the_verdict_depends_on_the_interval(after: float, verdict: str) -> None:
    pairs = [[1.0, after]] * 3
    cost = _arm_cost.Cost(wall=pairs, cpu=pairs, in_arm=pairs, peak=pairs, at_start=pairs)
    assert _arm_cost.format_cost("title", cost).count(f": {verdict} |") == 3


@pytest.mark.long
def test_both_methods_take_turns_on_the_same_rollouts() -> None:
    small = ["train.prompts_per_rollout=4", "train.group_size=4", "task.validation_problems=4"]
    cost = _arm_cost.measure(small, updates=2, rounds=1, rollouts=3)
    assert [len(cost.wall), len(cost.cpu), len(cost.peak)] == [2, 2, 1]
    for pair in cost.wall + cost.cpu:
        assert all(seconds > 0 for seconds in pair)
    assert all(grpo == 0 < progrpo for grpo, progrpo in cost.in_arm)
    for peak, at_start in zip(cost.peak[0], cost.at_start[0], strict=True):
        assert 200 < at_start <= peak < 4000


def test_the_message_for_an_unknown_benchmark_lists_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).parent, "arm_lob"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no benchmark 'arm_lob'" in done.stderr
    assert "arm_lab arm_smollm2" in done.stderr
