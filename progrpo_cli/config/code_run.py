"""Settings by which a configuration makes us run code that is neither ours nor in a sandbox.

The command line may ask for them. A file may come from somebody else, so a file alone may not: neither the
configuration in a run or study directory nor a sweep's space.
"""

from __future__ import annotations

from progrpo_cli.config.schema import Config
from progrpo_cli.tasks.config import CodeConfig, OwnConfig

KEYS = ("task.verdict", "task.sandbox", "model.trust_remote_code")


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


def in_words(found: dict[str, str]) -> str:
    """For a message, after who it is: ``says task.verdict=module:function, which runs code ...``."""
    settings = ", ".join(f"{key}={value}" for key, value in found.items())
    return f"says {settings}, which runs code without protection"
