"""Versions of each method's arithmetic and of each kind of task's judge. Only the code sets them.

A version is increased when results change under an unchanged configuration. A configuration holds the versions under
which it was made, so that runs of different versions have different hashes. Version 1 is not part of the hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError

KEYS = ("method.version", "task.judge_version")


def version_table(config: Config) -> dict[str, tuple[str, int, int]]:
    """Return key -> (name of the method or judge, the configuration's version, the code's version)."""
    method, task = config.method, config.task
    return {
        "method.version": (f"method {method.name}", method.version, method.version_of_code),
        "task.judge_version": (f"the judge of {task.kind} tasks", task.judge_version, task.judge_version_of_code),
    }


def with_code_versions(config: Config) -> Config:
    """Return the configuration with the versions of this code."""
    return _with_versions(config, config.method.version_of_code, config.task.judge_version_of_code)


def with_earlier_versions(config: Config) -> Iterator[Config]:
    """Yield the configuration with every earlier combination of versions."""
    method, task = config.method, config.task
    for versions in product(range(1, method.version + 1), range(1, task.judge_version + 1)):
        if versions != (method.version, task.judge_version):
            yield _with_versions(config, *versions)


def refuse_set(resolved: Any, config: Config) -> None:
    """Check that no file or override sets a version.

    Raises:
        RequestError: a version is set and differs from the code's.
    """
    for key, (name, _, version) in version_table(config).items():
        section, _, field = key.partition(".")
        given = resolved[section].get(field, version)
        if given != version:
            raise RequestError(f"{key}={given}: {name} has version {version} here; only the code sets it")


def refuse_other(config: Config, subject: str) -> None:
    """Check that the configuration's versions are the code's, so that a run or study can be continued.

    Args:
        config: the configuration of the run or study.
        subject: the run or study, for the message, e.g. the directory of a run.

    Raises:
        RequestError: a version differs; the message names both.
    """
    for name, old, new in version_table(config).values():
        if old != new:
            raise RequestError(
                f"{subject} was started under version {old} of {name}, and this is version {new}: its results "
                "would not be comparable; start again under another name"
            )


def _with_versions(config: Config, method: int, judge: int) -> Config:
    return config.model_copy(
        update={
            "method": config.method.model_copy(update={"version": method}),
            "task": config.task.model_copy(update={"judge_version": judge}),
        }
    )
