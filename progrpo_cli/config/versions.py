"""Versions that the code owns: of each method's arithmetic and of each kind of task's judge.

They are raised whenever numbers change under an unchanged configuration. A configuration holds those under which it was
made, so that runs of two versions have two hashes; 1 is left out of the hash, as if there were none.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError

KEYS = ("method.version", "task.judge_version")


def described(config: Config) -> dict[str, tuple[str, int, int]]:
    """Key -> what it is the version of, the configuration's version, and the code's."""
    method, task = config.method, config.task
    return {
        "method.version": (f"method {method.name}", method.version, method.version_of_code),
        "task.judge_version": (f"the judge of {task.kind} tasks", task.judge_version, task.judge_version_of_code),
    }


def of_code(config: Config) -> Config:
    """The configuration under the versions that this code has."""
    return _with(config, config.method.version_of_code, config.task.judge_version_of_code)


def earlier(config: Config) -> Iterator[Config]:
    """The configuration as earlier versions of the code would have made it."""
    method, task = config.method, config.task
    for versions in product(range(1, method.version + 1), range(1, task.judge_version + 1)):
        if versions != (method.version, task.judge_version):
            yield _with(config, *versions)


def refuse_set(resolved: Any, config: Config) -> None:
    """Refuse a version that somebody has written into what configurations are composed of.

    Raises:
        RequestError: it is not the code's.
    """
    for key, (what, _, version) in described(config).items():
        section, _, name = key.partition(".")
        given = resolved[section].get(name, version)
        if given != version:
            raise RequestError(f"{key}={given}: {what} has version {version} here; the code says so, nobody sets it")


def refuse_other(config: Config, begun: str) -> None:
    """Refuse to go on with what was begun under other versions than the code's.

    Args:
        begun: what it is, e.g. a run's directory.

    Raises:
        RequestError: names both versions.
    """
    for what, held, version in described(config).values():
        if held != version:
            raise RequestError(
                f"{begun} was begun under version {held} of {what}, and this is version {version}: its numbers would "
                "not go together; begin anew under another name"
            )


def _with(config: Config, method: int, judge: int) -> Config:
    return config.model_copy(
        update={
            "method": config.method.model_copy(update={"version": method}),
            "task": config.task.model_copy(update={"judge_version": judge}),
        }
    )
