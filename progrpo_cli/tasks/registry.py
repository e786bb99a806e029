"""From a task's configuration to the task."""

from __future__ import annotations

from progrpo_cli.config.schema import TaskConfig
from progrpo_cli.tasks.base import Task
from progrpo_cli.tasks.countdown.task import Countdown


def make_task(config: TaskConfig) -> Task:
    """The task that the configuration names."""
    return Countdown(
        chat=config.prompt == "chat",
        max_new_tokens=config.max_new_tokens,
        limits={
            "rl": config.rl_problems,
            "validation": config.validation_problems,
            "test": config.test_problems,
        },
    )
