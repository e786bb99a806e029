"""What ``progrpo eval`` asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from progrpo_cli.config import folder
from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.evaluation.settings import samples_needed
from progrpo_cli.sampling.vllm_setup import require_vllm
from progrpo_cli.tasks.base import Split
from progrpo_cli.tasks.config import TaskConfig
from progrpo_cli.tracking.wandb_run import wandb_mode

BACKENDS = ("hf", "vllm")
COLDEST = 0.01
"""Temperatures below it are as good as greedy, and vLLM does not have them."""
SPLIT_NAMES: dict[str, Split] = {"test": "test", "validation": "validation", "train": "rl", "rl": "rl"}
"""What --split takes; configurations and scores call the training problems ``rl``."""


def split_named(name: str) -> Split:
    """The split of a task that ``--split`` names.

    Raises:
        RequestError: there is none of that name.
    """
    if name not in SPLIT_NAMES:
        raise RequestError(f"--split {name}: no such split{nearest(name, SPLIT_NAMES)}")
    return SPLIT_NAMES[name]


@dataclass(frozen=True)
class Request:
    """How targets are evaluated; what is None follows the target."""

    ks: list[int]
    n: int | None = None
    tasks: list[str] | None = None
    settings: tuple[str, ...] = ()
    """``task.KEY=VALUE`` for each of the tasks."""
    backend: str = "hf"
    temperatures: tuple[float, ...] = ()
    """Each is an evaluation of its own; 0 is greedy; none: the run's own."""
    top_p: float = 1.0
    limit: int | None = None
    fresh: bool = False
    split: Split = "test"
    trust_remote_code: bool = False
    """Asked for here, not read from the run: a run directory may come from somebody else."""
    trust_config: bool = False
    """For the same reason: what the run's configuration asks for (see `config/demands.py`) is taken from it."""
    config_dir: Path | None = None
    """Where ``tasks`` are looked for, too."""

    def __post_init__(self) -> None:
        """Refuse what no target could satisfy, before anything is loaded or written."""
        samples_needed(self.ks, self.n)
        wandb_mode(None)
        if self.backend not in BACKENDS:
            raise RequestError(f"unknown backend {self.backend!r}{nearest(self.backend, BACKENDS)}")
        if self.backend == "vllm":
            require_vllm("--backend vllm")
        for temperature in self.temperatures:
            if temperature != 0 and not COLDEST <= temperature < math.inf:
                raise RequestError(
                    f"--temperature {temperature:g}: must be 0 (greedy), or finite and at least {COLDEST}"
                )
            if self.temperatures.count(temperature) > 1:
                raise RequestError(f"--temperature {temperature:g}: is there twice")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"--top-p {self.top_p}: must be above 0 and at most 1")
        if self.limit is not None and self.limit < 1:
            raise RequestError(f"--limit {self.limit}: must be at least 1")
        own = folder.resolve(self.config_dir)
        for name in self.tasks or []:
            folder.path_of("task", name, own)
        for setting in self.settings:
            if not setting.startswith("task.") or not self.tasks:
                raise RequestError(f"--set {setting}: takes task.KEY=VALUE, for the tasks that --tasks names")
        if self.settings:
            self.task_configs()

    def task_configs(self) -> list[TaskConfig]:
        """The tasks asked for; none: the target's own is meant."""
        return [compose([f"task={name}", *self.settings], config_dir=self.config_dir).task for name in self.tasks or []]
