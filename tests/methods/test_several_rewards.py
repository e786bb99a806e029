"""With a format bonus in addition to correctness, correctness alone decides which groups ARM re-weights."""

import math
from pathlib import Path

import arm_reference
import definitions as by
import pytest
from replay import Row, replay

ALL_WRONG = "3 5 8 10=0:"  # two wrong answers and two unreadable ones: a format bonus, and none is right
UNREADABLE = {"3*8*10*5 9", "8*5+3)*10"}


def rewards(row: Row) -> float:
    return row.correct + 0.5 * (row.text not in UNREADABLE and not row.truncated)


def test_a_group_with_a_bonus_but_no_right_answer_keeps_its_advantages(tmp_path: Path) -> None:
    result = replay(tmp_path, "method=progrpo", "train.rewards.format=0.5")
    before = by.map_groups(result.rows, lambda group: arm_reference.group_advantages([rewards(row) for row in group]))
    metrics = result.trainer.rollout_metrics
    logged = {name: list(column) for name, column in result.trainer._logs["extra"].items()}
    assert logged["A"] == pytest.approx(before, abs=1e-4)
    for row, a, after in zip(result.rows, logged["A"], logged["A~"], strict=True):
        if row.prompt == ALL_WRONG:
            assert a != 0
            assert after == a, "not re-weighted"
        else:
            assert after != a
    assert [row.advantage for row in result.rows] == pytest.approx(logged["A~"])
    right = [row for row in result.rows if row.correct]
    assert len(right) == 7
    c_right = [arm_reference.confidence(row.old, 0.2) for row in right]
    assert metrics["arm/answer_confidence_correct"] == pytest.approx(sum(c_right) / 7, abs=1e-5)
    assert metrics["arm/gated_fraction"] == 3 / 4
    assert (metrics["pass@1"], metrics["pass@4"]) == (7 / 16, 3 / 4)
    reward = result.trainer._metrics["train"]["reward"]
    assert reward == pytest.approx([sum(map(rewards, result.rows)) / 16])
    shifts = [after - a for a, after in zip(logged["A"], logged["A~"], strict=True) if after != a]
    assert metrics["arm/shift_mean"] == pytest.approx(sum(shifts) / len(shifts), abs=1e-5)
    assert not any(math.isnan(value) for value in metrics.values())


def test_the_configuration_names_the_reward_that_decides_correctness(tmp_path: Path) -> None:
    result = replay(tmp_path, "method=progrpo", "train.rewards.format=0.5", "train.correctness_reward=format")
    metrics = result.trainer.rollout_metrics
    assert metrics["arm/gated_fraction"] == 1.0  # each group has a readable answer
    assert metrics["pass@1"] == 13 / 16
