"""What a run trains on: the prompts of every rollout in order, and the reward of a completion."""

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
    """Prompts for dynamic sampling: of each refill by the seed, the updates made and its number, and nothing else."""

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
    """Name -> weight of the reward functions of a run, in the order in which the trainer gets them."""
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
    """TRL's reward functions, those of :func:`reward_weights`. An exception of the grader ends the run.

    ``ends`` are the tokens that end a completion, see :func:`progrpo_cli.sampling.ends.end_tokens`. Where there is no
    verdict there is no reward, which ``errors`` counts.
    """
    judged: list[tuple[list[list[int]], list[Verdict]]] = []

    def verdicts(completions: list[Any], completion_ids: list[list[int]], problem: list[int]) -> list[Verdict]:
        """Each completion is judged once, whatever the number of functions that ask."""
        if not judged or judged[0][0] is not completion_ids:
            texts = [completion[0]["content"] if task.chat else completion for completion in completions]
            finished = [bool(ids) and ids[-1] in ends for ids in completion_ids]
            attempts = [
                Attempt(problems[i], text, ended) for i, text, ended in zip(problem, texts, finished, strict=True)
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

    of_length = config.method.length_reward(config.task.max_new_tokens)

    def length(completion_ids: list[list[int]], **_: object) -> list[float]:
        assert of_length is not None
        return [of_length(len(ids)) for ids in completion_ids]

    functions: dict[str, Callable[..., list[float]]] = {"correctness": correctness, "format": format, "length": length}
    return [functions[name] for name in reward_weights(config)]
