"""Held-out Pass@k while training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from progrpo_cli.config.schema import Config
from progrpo_cli.metrics.passk import pass_at_k
from progrpo_cli.sampling.base import derived_seed
from progrpo_cli.sampling.hf import HfSampler
from progrpo_cli.tasks.base import Task


def validator(config: Config, task: Task, model: Any, tokenizer: Any) -> Callable[[], dict[str, float]]:
    """Held-out Pass@1 and Pass@G on the validation split, G samples a problem, as ``validation/...``."""
    group_size = config.train.group_size
    sampler = HfSampler(
        model,
        tokenizer,
        temperature=config.train.temperature,
        top_p=1.0,
        max_new_tokens=config.task.max_new_tokens,
        chat=task.chat,
    )
    problems = task.problems("validation")

    def validate() -> dict[str, float]:
        rows = [problem for problem in problems for _ in range(group_size)]
        counts = dict.fromkeys((problem.id for problem in problems), 0)
        size = max(1, config.train.micro_batch_size)
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            seed = derived_seed(f"validation-{config.seed}-{start}")
            samples = sampler.sample([problem.prompt for problem in batch], seed)
            for problem, sample in zip(batch, samples, strict=True):
                counts[problem.id] += task.verdict(problem, sample.text, finished=sample.finished) == "correct"
        return {
            f"validation/pass@{k}": sum(pass_at_k(group_size, right, k) for right in counts.values()) / len(counts)
            for k in (1, group_size)
        }

    return validate
