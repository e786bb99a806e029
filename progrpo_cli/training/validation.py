"""Held-out Pass@k during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from progrpo_cli import processes
from progrpo_cli.config.schema import Config
from progrpo_cli.metrics.passk import pass_at_k
from progrpo_cli.sampling.base import Batch, derived_seed
from progrpo_cli.sampling.hf import HfSampler
from progrpo_cli.tasks.base import Attempt, Task
from progrpo_cli.tasks.judge_errors import JudgeErrors


def make_validator(
    config: Config, task: Task, model: Any, tokenizer: Any, errors: JudgeErrors
) -> Callable[[], dict[str, float]]:
    """Make the function that computes ``validation/pass@1`` and ``validation/pass@G`` with G samples per problem.

    The function is collective: each process samples its part of the batches. Batches and their seeds do not depend on
    the number of processes.
    """
    group_size = config.train.group_size
    sampler = HfSampler(
        model,
        tokenizer,
        temperature=config.train.temperature,
        top_p=1.0,
        max_new_tokens=config.task.max_new_tokens,
        chat=task.chat,
        stop_tokens=config.model.stop_tokens,
    )
    problems = task.problems("validation")

    def validate() -> dict[str, float]:
        rows = [problem for problem in problems for _ in range(group_size)]
        counts = dict.fromkeys((problem.id for problem in problems), 0)
        size = max(1, config.train.micro_batch_size)
        starts = range(processes.rank() * size, len(rows), processes.world() * size)  # of this process's batches
        parts = [rows[start : start + size] for start in starts]
        batches = [
            Batch([problem.prompt for problem in part], derived_seed(f"validation-{config.seed}-{start}"))
            for start, part in zip(starts, parts, strict=True)
        ]
        for part, samples in zip(parts, sampler.sample(batches), strict=True):
            attempts = [Attempt(p, sample.text, sample.finished) for p, sample in zip(part, samples, strict=True)]
            verdicts = task.verdicts(attempts)
            errors.count(verdicts, "a batch of the validation split")
            for problem, verdict in zip(part, verdicts, strict=True):
                counts[problem.id] += verdict == "correct"
        all_counts = processes.all_gather(counts)
        right = [sum(process_counts[problem.id] for process_counts in all_counts) for problem in problems]
        return {
            f"validation/pass@{k}": sum(pass_at_k(group_size, count, k) for count in right) / len(right)
            for k in (1, group_size)
        }

    return validate
