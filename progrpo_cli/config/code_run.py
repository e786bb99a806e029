"""Settings by which a configuration makes us run code that is neither ours nor in a sandbox.

The command line may ask for them. A file may come from somebody else, so a file alone may not: neither the
configuration in a run or study directory, nor a sweep's space, nor a file of ``--config-dir``.

A method or task of another package is another matter: whoever installed the package trusts it, and a space or a folder
that the command line names may choose it. A run or study directory that was sent may not have it imported.
"""

from __future__ import annotations

from progrpo_cli.config.schema import Config
from progrpo_cli.methods.registry import METHODS
from progrpo_cli.tasks.config import CodeConfig, OwnConfig
from progrpo_cli.tasks.registry import KINDS_OF_TASKS

KEYS = ("task.verdict", "task.sandbox", "model.trust_remote_code")
IMPORTED = ("method.name", "task.kind")


def code_run_by(config: Config) -> dict[str, str]:
    """Those of :data:`KEYS` that the configuration uses, and what each is set to, as an override writes it."""
    found = {}
    if isinstance(config.task, OwnConfig) and config.task.verdict is not None:
        found["task.verdict"] = config.task.verdict
    if isinstance(config.task, CodeConfig) and config.task.sandbox == "none":
        found["task.sandbox"] = "none"
    if config.model.trust_remote_code:
        found["model.trust_remote_code"] = "true"
    return found


def code_imported_by(config: Config) -> dict[str, str]:
    """Those of :data:`IMPORTED` whose class is another installed package's, and the names."""
    of_others = (not METHODS.is_shipped(config.method.name), not KINDS_OF_TASKS.is_shipped(config.task.kind))
    named = zip(IMPORTED, of_others, (config.method.name, config.task.kind), strict=True)
    return {key: name for key, is_of_others, name in named if is_of_others}


def in_words(found: dict[str, str]) -> str:
    """For a message, after who it is: ``says task.verdict=module:function, which runs code ...``."""
    settings = ", ".join(f"{key}={value}" for key, value in found.items())
    return f"says {settings}, which runs code without protection"
