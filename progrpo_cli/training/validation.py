"""Held-out Pass@k while training."""

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


def validator(
    config: Config, task: Task, model: Any, tokenizer: Any, errors: JudgeErrors
) -> Callable[[], dict[str, float]]:
    """Held-out Pass@1 and Pass@G on the validation split, G samples a problem, as ``validation/...``.

    What it returns is collective: every process samples its part of the batches, which are the same for any number of
    processes, as are their seeds.
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
        mine = range(processes.rank() * size, len(rows), processes.world() * size)
        parts = {start: rows[start : start + size] for start in mine}
        batches = [
            Batch([problem.prompt for problem in part], derived_seed(f"validation-{config.seed}-{start}"))
            for start, part in parts.items()
        ]
        for part, samples in zip(parts.values(), sampler.sample(batches), strict=True):
            attempts = [Attempt(p, sample.text, sample.finished) for p, sample in zip(part, samples, strict=True)]
            verdicts = task.verdicts(attempts)
            errors.count(verdicts, "a batch of the validation split")
            for problem, verdict in zip(part, verdicts, strict=True):
                counts[problem.id] += verdict == "correct"
        right = [sum(of_process[problem.id] for of_process in processes.all_gather(counts)) for problem in problems]
        return {
            f"validation/pass@{k}": sum(pass_at_k(group_size, count, k) for count in right) / len(right)
            for k in (1, group_size)
        }

    return validate
