"""Create tasks from their configurations. The modules of a kind are imported only when a task of it is created."""

from __future__ import annotations

from progrpo_cli.catalogue import Catalogue
from progrpo_cli.tasks.base import Task
from progrpo_cli.tasks.config import (
    KINDS,
    ChoiceConfig,
    CodeConfig,
    CountdownConfig,
    MathsConfig,
    OwnConfig,
    ReasoningGymConfig,
    TaskConfig,
)

KINDS_OF_TASKS = Catalogue("kind of task", "progrpo.tasks", TaskConfig, "kind", lambda: KINDS)
"""All kinds by the name in ``task.kind``: those of this package and those of other installed packages."""
_PACKAGE = "progrpo_cli.tasks"
_POOL = ("judging.pool", "judging.channel", "judging.worker")
JUDGES = {
    "choice": ("choice", "answers"),
    "code": (
        *("code.task", "code.extraction", "code.checking", "code.driver", "code.formats"),
        *("code.sandbox", "code.program", "code.bubblewrap", "code.seccomp", "answers"),
    ),
    "countdown": ("countdown.task", "countdown.expression", "countdown.styles"),
    "maths": (
        *(
            "answers",
            "maths.task",
            "maths.guard",
            "maths.normalisation",
            "maths.text_comparison",
            "maths.numbers",
            "maths.judge",
        ),
        *_POOL,
    ),
    "own": ("own", "answers"),
    "reasoning_gym": ("reasoning_gym.task", "reasoning_gym.judge", *_POOL),
}
"""The modules of this package that decide a verdict, by kind of task."""


def judge_modules(config: TaskConfig) -> list[str]:
    """Return the modules that decide the verdicts of a task, including the module of a user's verdict function.

    Raises:
        RequestError: the verdict function cannot be imported.
    """
    if config.kind not in JUDGES:
        return [type(config).__module__]
    modules = [f"{_PACKAGE}.{name}" for name in JUDGES[config.kind]]
    if isinstance(config, OwnConfig) and config.verdict is not None:
        from progrpo_cli.tasks.own import verdict_function

        function = verdict_function(config.verdict)
        modules += [config.verdict.partition(":")[0], function.__module__]  # they differ if it imports the function
    return modules


def make_task(config: TaskConfig) -> Task:
    """Create the task that the configuration describes.

    Raises:
        RequestError: an extra or a tool that the task needs is missing.
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
    return config.make_task()
