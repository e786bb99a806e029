"""From a task's configuration to the task. What a kind needs is imported only for a task of that kind."""

from __future__ import annotations

from progrpo_cli.tasks.base import Task
from progrpo_cli.tasks.sections import (
    ChoiceConfig,
    CodeConfig,
    CountdownConfig,
    MathsConfig,
    OwnConfig,
    ReasoningGymConfig,
    TaskConfig,
)


def make_task(config: TaskConfig) -> Task:
    """The task that the configuration describes.

    Raises:
        RequestError: what the task needs (an extra, a tool) is missing.
    """
    match config:
        case ChoiceConfig():
            from progrpo_cli.tasks.choice import Choice

            return Choice(config)
        case CodeConfig():
            from progrpo_cli.tasks.code.task import Code

            return Code(config)
        case CountdownConfig():
            from progrpo_cli.tasks.countdown.task import Countdown

            return Countdown(
                chat=config.prompt == "chat",
                max_new_tokens=config.max_new_tokens,
                limits={
                    "rl": config.rl_problems,
                    "validation": config.validation_problems,
                    "test": config.test_problems,
                },
            )
        case MathsConfig():
            from progrpo_cli.tasks.maths.task import Maths

            return Maths(config)
        case OwnConfig():
            from progrpo_cli.tasks.own import Own

            return Own(config)
        case ReasoningGymConfig():
            from progrpo_cli.tasks.reasoning_gym.task import ReasoningGym

            return ReasoningGym(config)
    raise TypeError(f"no task of kind {config.kind}")
