"""DAPO's dynamic sampling: the merged rollout, its metrics, and the prompts of refills."""

import logging
from pathlib import Path

import pytest
import torch
from replay import RECORDED, SIZE, make_trainer, replay, sample

from progrpo_cli.config.compose import compose
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.training.data import refill_prompts
from progrpo_cli.training.refill import LocalRollout, merge

PAD = 9
FIRST, SECOND = list(RECORDED["first"]), list(RECORDED["second"])
UNIFORM = [FIRST[2], FIRST[3]]  # all wrong, all right


def make_rollout(start: int, prompt_width: int, width: int, mixed: list[bool]) -> LocalRollout:
    """A rollout of groups of two whose rows are numbered from ``start``."""
    rows = torch.arange(start, start + 2 * len(mixed))
    return LocalRollout(
        {
            "prompt_ids": rows[:, None].expand(-1, prompt_width),
            "prompt_mask": torch.ones(len(rows), prompt_width, dtype=torch.long),
            "completion_ids": rows[:, None].expand(-1, width),
            "completion_mask": torch.ones(len(rows), width, dtype=torch.long),
            "old_per_token_logps": -rows[:, None].expand(-1, width).float(),
            "advantages": rows.float(),
            "num_items_in_batch": torch.tensor(0),
        },
        rewards=rows[:, None].float(),
        mixed=torch.tensor(mixed),
        logged={"prompt": rows.tolist(), "advantages": rows.tolist()},
    )


def test_mixed_groups_are_merged_in_order_with_trls_padding() -> None:
    first, second = make_rollout(0, 2, 3, [False, True, False]), make_rollout(6, 3, 2, [True, True, True])
    merged, kept = merge([first, second], 3, 2, PAD)
    assert kept == 3
    assert merged.mixed.all()
    assert merged.output["prompt_ids"].tolist() == [[PAD, 2, 2], [PAD, 3, 3], *([[i] * 3 for i in (6, 7, 8, 9)])]
    assert merged.output["prompt_mask"].tolist() == [[0, 1, 1]] * 2 + [[1, 1, 1]] * 4
    assert merged.output["completion_ids"].tolist() == [[2] * 3, [3] * 3, *([[i, i, PAD] for i in (6, 7, 8, 9)])]
    assert merged.output["completion_mask"].tolist() == [[1, 1, 1]] * 2 + [[1, 1, 0]] * 4
    assert merged.output["old_per_token_logps"][2].tolist() == [-6, -6, 0]
    order = [2, 3, 6, 7, 8, 9]
    assert merged.output["advantages"].tolist() == order
    assert merged.rewards.flatten().tolist() == order
    assert merged.logged == {"prompt": order, "advantages": order}


def test_missing_groups_are_filled_from_the_first_rollout_with_advantage_0() -> None:
    first, second = make_rollout(0, 2, 2, [False, True, False]), make_rollout(6, 2, 2, [False, False, False])
    merged, kept = merge([first, second], 3, 2, PAD)
    assert kept == 1
    assert merged.mixed.tolist() == [True, False, False]
    assert merged.logged["prompt"] == [2, 3, 0, 1, 4, 5]
    assert merged.output["advantages"].tolist() == merged.logged["advantages"] == [2, 3, 0, 0, 0, 0]


def test_a_refilled_rollout_is_logged_and_all_samples_count_for_pass_at_k(tmp_path: Path) -> None:
    result = replay(tmp_path, "method=dapo")
    trained = [*FIRST[:2], *SECOND[1:3]]
    logs = result.trainer._logs
    assert list(logs["prompt"])[::SIZE] == trained
    assert list(logs["completion"]) == [row.text for row in result.rows]
    assert list(logs["rewards"]["correctness"]) == [float(row.correct) for row in result.rows]
    assert list(logs["advantages"]) == pytest.approx([row.advantage for row in result.rows])
    # 7 of 16 completions of the first rollout and 5 of 16 of the second are right; in each, 3 of 4 groups have one.
    metrics = result.trainer.rollout_metrics
    assert (metrics["pass@1"], metrics["pass@4"]) == (12 / 32, 6 / 8)
    assert metrics["dapo/rollouts_sampled"] == 2
    assert metrics["dapo/mixed_fraction"] == 5 / 8
    assert metrics["dapo/unmixed_groups_kept"] == 0
    assert result.output["num_items_in_batch"] == sum(len(row.logps) for row in result.rows)


def test_exhausted_refills_warn_once_and_unmixed_groups_have_advantage_0(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("progrpo"), "propagate", True)
    # With a cache of 0.8 * 30 tokens each token after the sixth is penalised, so wrong completions differ in reward.
    options = ["method=dapo", "method.max_refills=2", "method.overlong_cache_fraction=0.8"]
    _, trainer = make_trainer(tmp_path, *options, refill=[*UNIFORM, *UNIFORM])
    outputs = [sample(trainer) for _ in range(2)]
    warnings = [record.message for record in caplog.records if "groups are mixed" in record.message]
    assert len(warnings) == 1
    assert "only 2 of 4" in warnings[0]
    metrics = trainer.rollout_metrics
    assert metrics["dapo/rollouts_sampled"] == 3
    assert metrics["dapo/unmixed_groups_kept"] == 2
    assert list(trainer._logs["prompt"])[::SIZE] == [*FIRST[:2], *UNIFORM]
    for output in outputs:
        assert output["advantages"][: 2 * SIZE].all()
        assert not output["advantages"][2 * SIZE :].any()


def test_without_refills_one_rollout_is_sampled(tmp_path: Path) -> None:
    _, trainer = make_trainer(tmp_path, "method=dapo", "method.max_refills=0")
    sample(trainer)
    assert list(trainer._logs["prompt"])[::SIZE] == FIRST
    assert not [name for name in trainer.rollout_metrics if name.startswith("dapo/")]


def test_the_prompts_of_a_refill_depend_only_on_seed_updates_and_number() -> None:
    config = compose(["train.prompts_per_rollout=16"])
    problems = make_task(config.task).problems("rl")
    draw = refill_prompts(config, problems, chat=False)
    again = refill_prompts(config, problems, chat=False)
    other_seed = refill_prompts(config.model_copy(update={"seed": 1}), problems, chat=False)
    assert draw(4, 1) == again(4, 1)
    drawn = [draw(4, 1), draw(4, 2), draw(6, 1), other_seed(4, 1)]
    for rows in drawn:
        assert len({row["problem"] for row in rows}) == len(rows) == 16
        assert all(row["prompt"] == problems[row["problem"]].prompt for row in rows)
    assert len({tuple(row["problem"] for row in rows) for rows in drawn}) == 4
    few = refill_prompts(config, problems[:5], chat=False)(0, 1)
    assert len(few) == 16
    assert {row["problem"] for row in few} == set(range(5))
