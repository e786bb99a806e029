"""What a configuration asks for that somebody else must not ask of us: code, other hosts, files from anywhere.

The command line may ask for it. A file may come from somebody else, so a file alone may not, unless this user's own
command wrote it, which its signature says: neither the configuration in a run or study directory nor a sweep's space.
Every command asks here, and nowhere else.
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
"""Keys that may name a class of another package: whoever installed it trusts it, and a space or a folder that the
command line names may choose it; a run or study directory that was sent may not have it imported."""
CODE = ("task.verdict", "task.sandbox", "model.trust_remote_code")
"""Keys that make us run code that is neither ours nor in a sandbox."""
FILES = ("task.dataset", "model.path")
"""Keys that may name a file or directory."""
_WHY = {
    **dict.fromkeys(CODE, "runs code without protection"),
    **dict.fromkeys(IMPORTED, "runs code without protection, another package's"),
    **dict.fromkeys(FILES, "is a file outside of its directory"),
    "train.generation.server_url": "sends weights and prompts to a server",
    "tracking.wandb.mode": "sends to W&B",
    "tracking.wandb.entity": "sends to W&B",
    "storage": "connects to a database or opens a file",
    "slurm": "tells SLURM more than what a job needs",
}
JOB_SIZE = {
    *("account", "array_parallelism", "constraint", "cpus_per_gpu", "cpus_per_task", "exclude", "exclusive"),
    *("gpus_per_node", "gpus_per_task", "gres", "mem", "mem_per_cpu", "mem_per_gpu", "nodelist", "nodes"),
    *("ntasks_per_node", "num_gpus", "partition", "qos", "signal_delay_s", "stderr_to_stdout", "time"),
    *("use_srun", "wckey"),
}
"""Options of SLURM that say where a job runs and what it gets: any file may set them."""


def demanded_by(config: Config, directory: Path) -> dict[str, str]:
    """What the configuration asks for, as overrides write it: key -> value.

    Args:
        config: a valid configuration.
        directory: where the file that holds it lies; what is in there came with the file and is no demand.
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
    if wandb.entity is not None and wandb.mode != "disabled":  # where WANDB_MODE may still say online
        demands["tracking.wandb.entity"] = wandb.entity
    return demands


def imported_by(config: Config) -> dict[str, str]:
    """Those of :data:`IMPORTED` whose class is another installed package's, and the names."""
    of_others = (not METHODS.is_shipped(config.method.name), not KINDS_OF_TASKS.is_shipped(config.task.kind))
    named = zip(IMPORTED, of_others, (config.method.name, config.task.kind), strict=True)
    return {key: name for key, is_of_others, name in named if is_of_others}


def demanded_by_values(varied: Mapping[str, Iterable[Any]], directory: Path) -> dict[str, str]:
    """The same for keys that a space varies: each with the first value that asks for something."""
    demands = {key: str(next(iter(varied[key]), "...")) for key in CODE if key in varied}
    for key in FILES:
        for value in varied.get(key, ()):
            demands |= _files({key: str(value)}, directory)
    return demands


def _files(values: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Those values that name a file outside of the directory. Names of a hub, and packages' own, are none."""
    return {key: value for key, value in values.items() if _is_a_file(value) and not _is_inside(value, directory)}


def _is_a_file(value: str) -> bool:
    if value in (paths.LAB_BASE, paths.SMOLLM2):
        return False
    path = Path(value)
    named_as_one = path.is_absolute() or ".." in path.parts or path.suffix in (".jsonl", ".parquet")
    try:
        return named_as_one or path.exists()
    except (OSError, ValueError):
        return True


def _is_inside(value: str, directory: Path) -> bool:
    try:
        return Path(value).resolve().is_relative_to(directory.resolve())
    except (OSError, ValueError, RuntimeError):  # a circle of links, a NUL
        return False


def refuse(who: str, demands: Mapping[str, str], remedy: str) -> None:
    """Refuse what nobody here has asked for.

    Args:
        who: the file, for the message.
        demands: what is left after the command line's own; nothing is refused where it is empty.
        remedy: what accepts it.

    Raises:
        RequestError: names every demand with its value, and why it is one.
    """
    if demands:
        raise RequestError(f"{who} {in_words(demands)}; {remedy}")


def in_words(demands: Mapping[str, str]) -> str:
    """For a message, after who it is: ``says task.verdict=module:function, which runs code ...``."""
    said = [
        f"{key}={value}, which {_WHY[key.split('.')[0] if key not in _WHY else key]}" for key, value in demands.items()
    ]
    return f"says {' and '.join(said)}"
