"""On the lab GRPO learns, and ends above the base at every temperature (docs/lab.md)."""

import json

import numpy as np
import pytest
from command_line import CommandLine, read_metrics


def test_the_reward_of_a_short_run_rises(progrpo: CommandLine) -> None:
    """On 32 prompts, so that all rollouts have the same ones, at three times the recipe's learning rate."""
    overrides = ("task.rl_problems=32", "train.prompts_per_rollout=32", "train.learning_rate=6e-4", "train.steps=16")
    progrpo.json("train", "method=grpo", "seed=0", *overrides, "--run-dir", "short")
    rewards = [update["reward"] for update in read_metrics(progrpo.directory / "short")]
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.05


@pytest.mark.long
def test_grpo_on_the_recipe_is_better_than_the_base_at_every_temperature(progrpo: CommandLine) -> None:
    progrpo.json("train", "method=grpo", "seed=7", "--run-dir", "grpo")
    rewards = [update["reward"] for update in read_metrics(progrpo.directory / "grpo")]
    fifth = len(rewards) // 5
    assert np.mean(rewards[-fifth:]) > np.mean(rewards[:fifth]) + 0.15
    progrpo.json("eval", "progrpo/lab-base", "--temperature", "0,0.1,0.3,0.5,0.7,1,1.3")
    progrpo.json("eval", "grpo")
    base, trained = (
        [json.loads(path.read_text())["pass@1"]["value"] for path in directory.glob("eval/*/scores.json")]
        for directory in (progrpo.directory / "runs" / "eval-progrpo--lab-base", progrpo.directory / "grpo")
    )
    assert len(base) == 7
    assert trained[0] > max(base) + 0.1
