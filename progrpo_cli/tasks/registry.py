"""Finding a kind of task by its name, and making a task."""

from __future__ import annotations

from progrpo_cli.catalogue import Catalogue
from progrpo_cli.tasks.base import Task
from progrpo_cli.tasks.config import KINDS, TaskConfig

KINDS_OF_TASKS = Catalogue("kind of task", "progrpo.tasks", TaskConfig, "kind", lambda: KINDS)
"""All kinds by the name in ``task.kind``."""


def make_task(config: TaskConfig) -> Task:
    """The task that the configuration describes.

    Raises:
        RequestError: what the task needs (an extra, a tool) is missing.
    """
    return config.make_task()
