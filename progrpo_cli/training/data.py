"""Training data of a run: the prompts of each rollout, in order, and the reward functions."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any

from datasets import Dataset

from progrpo_cli.config.schema import Config
from progrpo_cli.sampling.chat import as_chat
from progrpo_cli.tasks.base import Attempt, Problem, Task, Verdict
from progrpo_cli.tasks.judge_errors import JudgeErrors


def rollout_prompts(config: Config, problems: Sequence[Problem], *, chat: bool) -> Dataset:
    """The prompts of all rollouts of the run, one row per prompt of a rollout, in the order of their use.

    They are epochs over the problems, shuffled by the seed. The order is fixed here and not by a sampler, so that after
    a restart the position in the data follows from the number of updates made.
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


def longest_prompt(prompts: Dataset, tokenizer: Any, *, chat: bool) -> int:
    """The length in tokens of the run's longest prompt."""
    unique = list({row["problem"]: row["prompt"] for row in prompts}.values())
    if chat:
        encoded = tokenizer.apply_chat_template(unique, add_generation_prompt=True, return_dict=True)
    else:
        encoded = tokenizer(unique)
    return max(len(ids) for ids in encoded["input_ids"])


def refill_prompts(
    config: Config, problems: Sequence[Problem], *, chat: bool
) -> Callable[[int, int], list[dict[str, Any]]]:
    """Make the source of prompts for dynamic sampling.

    A draw depends only on the seed, the number of updates made and the refill's number.
    """

    def draw(updates: int, refill: int) -> list[dict[str, Any]]:
        rng = random.Random(f"refill-{config.seed}-{updates}-{refill}")
        wanted = config.train.prompts_per_rollout
        chosen = rng.sample(range(len(problems)), min(wanted, len(problems)))
        chosen += rng.choices(range(len(problems)), k=wanted - len(chosen))
        return [
            {"prompt": as_chat(problems[index].prompt) if chat else problems[index].prompt, "problem": index}
            for index in chosen
        ]

    return draw


def reward_weights(config: Config) -> dict[str, float]:
    """Weights of a run's reward functions by name, in the trainer's order."""
    weights = {name: weight for name, weight in config.train.rewards.model_dump().items() if weight}
    if config.method.length_reward(config.task.max_new_tokens):
        weights["length"] = 1.0
    return weights


def reward_functions(
    config: Config,
    task: Task,
    problems: Sequence[Problem],
    ends: Collection[int],
    errors: JudgeErrors | None = None,
) -> list[Callable[..., list[float]]]:
    """The reward functions of :func:`reward_weights`, in TRL's form. An exception of the judge ends the run.

    Args:
        config: the run's configuration.
        task: judges the completions.
        problems: the training problems; the ``problem`` column of the data indexes them.
        ends: tokens that end a completion, see :func:`progrpo_cli.sampling.ends.end_tokens`.
        errors: counts completions that got no verdict, which have the reward 0.
    """
    judged: list[tuple[list[list[int]], list[Verdict]]] = []

    def verdicts(completions: list[Any], completion_ids: list[list[int]], problem: list[int]) -> list[Verdict]:
        """Judge the completions once, and return the same verdicts to each reward function."""
        if not judged or judged[0][0] is not completion_ids:
            texts = [completion[0]["content"] if task.chat else completion for completion in completions]
            finished = [bool(ids) and ids[-1] in ends for ids in completion_ids]
            attempts = [
                Attempt(problems[index], text, ended)
                for index, text, ended in zip(problem, texts, finished, strict=True)
            ]
            judged[:] = [(completion_ids, task.verdicts(attempts))]
            (errors or JudgeErrors()).count(judged[0][1], "a rollout")
        return judged[0][1]

    def correctness(
        completions: list[Any], completion_ids: list[list[int]], problem: list[int], **_: object
    ) -> list[float]:
        return [float(verdict == "correct") for verdict in verdicts(completions, completion_ids, problem)]

    def format(completions: list[Any], completion_ids: list[list[int]], problem: list[int], **_: object) -> list[float]:
        return [float(verdict in ("correct", "wrong")) for verdict in verdicts(completions, completion_ids, problem)]

    length_reward = config.method.length_reward(config.task.max_new_tokens)

    def length(completion_ids: list[list[int]], **_: object) -> list[float]:
        assert length_reward is not None
        return [length_reward(len(ids)) for ids in completion_ids]

    functions: dict[str, Callable[..., list[float]]] = {"correctness": correctness, "format": format, "length": length}
    return [functions[name] for name in reward_weights(config)]
