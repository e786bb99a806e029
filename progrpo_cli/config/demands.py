"""Demands of a configuration that can do harm: running code, contacting other hosts, reading any file.

The command line may make such demands. A file may come from somebody else. So a demand in the configuration of a run
or study directory, or in a sweep's space, is refused unless the command line repeats it, or the file's signature shows
that a command of this user wrote it. All commands use this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from progrpo_cli.config import paths
from progrpo_cli.config.schema import Config, GenerationConfig
from progrpo_cli.errors import RequestError
from progrpo_cli.methods.registry import METHODS
from progrpo_cli.tasks.config import CodeConfig, DatasetConfig, OwnConfig
from progrpo_cli.tasks.registry import KINDS_OF_TASKS

IMPORTED = ("method.name", "task.kind")
"""Keys that may name a class of another package. A user who installed the package trusts it, so a space or a folder
that the command line names may select the class. A run or study directory from somebody else may not."""
CODE = ("task.verdict", "task.sandbox", "model.trust_remote_code")
"""Keys that may make progrpo run foreign code outside a sandbox."""
FILES = ("task.dataset", "model.path")
"""Keys that may name a file or directory."""
_WHY = {
    **dict.fromkeys(CODE, "runs code without protection"),
    **dict.fromkeys(IMPORTED, "runs another package's code without protection"),
    **dict.fromkeys(FILES, "is a file outside its directory"),
    "train.generation.server_url": "sends weights and prompts to a server",
    "tracking.wandb.mode": "sends data to W&B",
    "tracking.wandb.entity": "sends data to W&B",
    "storage": "connects to a database or opens a file",
    "slurm": "gives SLURM options beyond a job's size and place",
}
JOB_SIZE = {
    *("account", "array_parallelism", "constraint", "cpus_per_gpu", "cpus_per_task", "exclude", "exclusive"),
    *("gpus_per_node", "gpus_per_task", "gres", "mem", "mem_per_cpu", "mem_per_gpu", "nodelist", "nodes"),
    *("ntasks_per_node", "num_gpus", "partition", "qos", "signal_delay_s", "stderr_to_stdout", "time"),
    *("use_srun", "wckey"),
}
"""Options of SLURM that decide where a job runs and which resources it gets. Any file may set them."""


def demands_of(config: Config, directory: Path) -> dict[str, str]:
    """Return the demands of a configuration: key -> value, as in an override.

    Args:
        config: a valid configuration.
        directory: the directory of the configuration's file; using files in it is not a demand.
    """
    demands = {}
    if isinstance(config.task, OwnConfig) and config.task.verdict is not None:
        demands["task.verdict"] = config.task.verdict
    if isinstance(config.task, CodeConfig) and config.task.sandbox == "none":
        demands["task.sandbox"] = "none"
    if config.model.trust_remote_code:
        demands["model.trust_remote_code"] = "true"
    if isinstance(config.task, DatasetConfig):
        demands |= _files({"task.dataset": config.task.dataset}, directory)
    demands |= _files({"model.path": config.model.path}, directory)
    generation, wandb = config.train.generation, config.tracking.wandb
    if generation.mode == "server" and generation.server_url != GenerationConfig().server_url:
        demands["train.generation.server_url"] = generation.server_url
    if wandb.mode == "online":
        demands["tracking.wandb.mode"] = wandb.mode
    if wandb.entity is not None and wandb.mode != "disabled":  # WANDB_MODE may still be "online"
        demands["tracking.wandb.entity"] = wandb.entity
    return demands


def foreign_classes_of(config: Config) -> dict[str, str]:
    """Return the keys of :data:`IMPORTED` that name a class of another package, with those names."""
    names = {"method.name": config.method.name, "task.kind": config.task.kind}
    shipped = {"method.name": METHODS.is_shipped, "task.kind": KINDS_OF_TASKS.is_shipped}
    return {key: names[key] for key in IMPORTED if not shipped[key](names[key])}


def demands_of_values(varied: Mapping[str, Iterable[Any]], directory: Path) -> dict[str, str]:
    """Return the demands of a space: for each key that it varies, one value that is a demand."""
    demands = {key: str(next(iter(varied[key]), "...")) for key in CODE if key in varied}
    for key in FILES:
        for value in varied.get(key, ()):
            demands |= _files({key: str(value)}, directory)
    return demands


def _files(values: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the values that name a file outside the directory. Names of a hub or a package are not files."""
    return {key: value for key, value in values.items() if _is_a_file(value) and not _is_inside(value, directory)}


def _is_a_file(value: str) -> bool:
    if value in (paths.LAB_BASE, paths.SMOLLM2):
        return False
    path = Path(value)
    looks_like_a_file = path.is_absolute() or ".." in path.parts or path.suffix in (".jsonl", ".parquet")
    try:
        return looks_like_a_file or path.exists()
    except (OSError, ValueError):
        return True


def _is_inside(value: str, directory: Path) -> bool:
    try:
        return Path(value).resolve().is_relative_to(directory.resolve())
    except (OSError, ValueError, RuntimeError):  # a circle of links, a NUL
        return False


def refuse(file: str, demands: Mapping[str, str], remedy: str) -> None:
    """Refuse demands that the command line does not repeat.

    Args:
        file: the file that makes the demands, for the message.
        demands: the demands that are not approved; if there are none, nothing is refused.
        remedy: how the user can approve them.

    Raises:
        RequestError: names every demand with its value, and what it does.
    """
    if demands:
        raise RequestError(f"{file} {describe(demands)}; {remedy}")


def describe(demands: Mapping[str, str]) -> str:
    """Describe demands for a message, after the file: ``sets task.verdict=module:function, which runs code ...``."""
    reasons = [
        f"{key}={value}, which {_WHY[key.split('.')[0] if key not in _WHY else key]}" for key, value in demands.items()
    ]
    return f"sets {' and '.join(reasons)}"
