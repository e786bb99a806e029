"""The options of ``progrpo eval``, checked."""

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
MIN_TEMPERATURE = 0.01
"""Lower temperatures are practically greedy, and vLLM does not accept them."""
SPLIT_NAMES: dict[str, Split] = {"test": "test", "validation": "validation", "train": "rl", "rl": "rl"}
"""Value of --split -> split of the task. Configurations and scores call the training problems ``rl``."""


def parse_split(name: str) -> Split:
    """Return the split that ``--split`` names.

    Raises:
        RequestError: there is no such split.
    """
    if name not in SPLIT_NAMES:
        raise RequestError(f"--split {name}: no such split{nearest(name, SPLIT_NAMES)}")
    return SPLIT_NAMES[name]


@dataclass(frozen=True)
class Request:
    """How targets are evaluated. A value of None is taken from the target's configuration."""

    ks: list[int]
    n: int | None = None
    tasks: list[str] | None = None
    settings: tuple[str, ...] = ()
    """``task.KEY=VALUE`` overrides, applied to every task of ``tasks``."""
    backend: str = "hf"
    temperatures: tuple[float, ...] = ()
    """One evaluation each; 0 is greedy. Empty: the temperature of the run."""
    top_p: float = 1.0
    limit: int | None = None
    fresh: bool = False
    split: Split = "test"
    trust_remote_code: bool = False
    """Never read from the run, because a run directory may come from somebody else."""
    trust_config: bool = False
    """Whether to grant the demands of the run's configuration (see `config/demands.py`)."""
    config_dir: Path | None = None
    """The user's configuration folder, also searched for ``tasks``."""

    def __post_init__(self) -> None:
        """Check everything that does not depend on the target, before anything is loaded or written."""
        samples_needed(self.ks, self.n)
        wandb_mode(None)
        if self.backend not in BACKENDS:
            raise RequestError(f"unknown backend {self.backend!r}{nearest(self.backend, BACKENDS)}")
        if self.backend == "vllm":
            require_vllm("--backend vllm")
        for temperature in self.temperatures:
            if temperature != 0 and not MIN_TEMPERATURE <= temperature < math.inf:
                raise RequestError(
                    f"--temperature {temperature:g}: must be 0 (greedy), or finite and at least {MIN_TEMPERATURE}"
                )
            if self.temperatures.count(temperature) > 1:
                raise RequestError(f"--temperature {temperature:g}: given twice")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"--top-p {self.top_p}: must be above 0 and at most 1")
        if self.limit is not None and self.limit < 1:
            raise RequestError(f"--limit {self.limit}: must be at least 1")
        own = folder.resolve(self.config_dir)
        for name in self.tasks or []:
            folder.path_of("task", name, own)
        for setting in self.settings:
            if not setting.startswith("task.") or not self.tasks:
                raise RequestError(f"--set {setting}: expected task.KEY=VALUE together with --tasks")
        if self.settings:
            self.task_configs()

    def task_configs(self) -> list[TaskConfig]:
        """The configurations of the requested tasks; empty if the target's own task is to be used."""
        return [compose([f"task={name}", *self.settings], config_dir=self.config_dir).task for name in self.tasks or []]
