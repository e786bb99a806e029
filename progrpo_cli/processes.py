"""The processes of one training run, as `accelerate launch` or `torchrun` starts them: this one's place among them.

All of them compute the same run. The main process alone writes the run directory, W&B's files and stdout. What is
marked as collective must be called by every process at the same moment, or the others wait for ever.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar

from progrpo_cli.errors import RequestError

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the slowest thing that one does alone is to write a checkpoint."""

SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def world() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, 0 for the main one."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def require_one(command: str) -> None:
    """Refuse to be one of several processes.

    Raises:
        RequestError: as described.
    """
    if world() > 1:
        raise RequestError(
            f"progrpo {command} is one process, not {world()}: only `train` can be started by a launcher"
        )


def require_whole_weights() -> None:
    """Refuse a launcher's configuration that spreads the weights over the processes.

    Raises:
        RequestError: as described.
    """
    for variable, name in SHARDING.items():
        if os.environ.get(variable, "false").lower() == "true":
            raise RequestError(
                f"{name} is not supported: every process holds the whole policy (accelerate's --multi_gpu)"
            )


def join(device: str) -> None:
    """Find the others, and take this process's own GPU where ``device`` is cuda; before anything collective."""
    from accelerate import PartialState

    if device == "cpu":  # accelerate would say cpu:0, a name by which torch.load does not know where to put anything
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState(cpu=device == "cpu", timeout=PATIENCE)


def broadcast(value: object) -> None:
    """Tell the others, from the main process, what they wait for in :func:`receive_broadcast`. Collective."""
    if world() > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list([value])


def receive_broadcast() -> Any:
    """What the main process tells. Collective, on all the others."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([None])[0]


def all_gather(value: T) -> list[T]:
    """Everybody's ``value``, in the order of the processes, on every process. Collective."""
    if world() == 1:
        return [value]
    from accelerate.utils import gather_object

    gathered: list[T] = gather_object([value])
    return gathered
