"""What a run trains on: the prompts of every rollout in order, and the reward of a completion."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset

from progrpo_cli.config.schema import Config
from progrpo_cli.sampling.hf import as_chat
from progrpo_cli.tasks.base import Problem, Task


def rollout_prompts(config: Config, problems: Sequence[Problem], *, chat: bool) -> Dataset:
    """The prompts of every rollout of the run, in the order in which they are used.

    A row a prompt and rollout: shuffled epochs over the problems, by the seed. The order is made here and not by a
    sampler, so that the position in the data after a restart is nothing but the number of updates made.
    """
    rng = random.Random(f"prompts-{config.seed}")
    rollouts = -(-config.train.steps // config.train.updates_per_rollout)
    needed = rollouts * config.train.prompts_per_rollout
    order: list[int] = []
    while len(order) < needed:
        epoch = list(range(len(problems)))
        rng.shuffle(epoch)
        order.extend(epoch)
    order = order[:needed]
    texts = [problems[index].prompt for index in order]
    return Dataset.from_dict({"prompt": [as_chat(text) for text in texts] if chat else texts, "problem": order})


def correctness_reward(task: Task, problems: Sequence[Problem], eos_token_id: int) -> Callable[..., list[float]]:
    """TRL's reward function: 1.0 for a verdict ``correct``, else 0.0. An exception of the grader ends the run."""

    def correctness(
        completions: list[Any], completion_ids: list[list[int]], problem: list[int], **_: object
    ) -> list[float]:
        rewards = []
        for completion, ids, index in zip(completions, completion_ids, problem, strict=True):
            text = completion[0]["content"] if task.chat else completion
            verdict = task.verdict(problems[index], text, finished=ids[-1] == eos_token_id)
            rewards.append(1.0 if verdict == "correct" else 0.0)
        return rewards

    return correctness
