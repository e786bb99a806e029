"""This process among those of one training run, as `accelerate launch` or `torchrun` starts them.

All of them compute the same run. Only the main process writes the run directory, W&B's files and stdout. Every process
has to call a function marked as collective at the same point; otherwise the others wait for ever.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar

from progrpo_cli.errors import RequestError

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others. The slowest thing that one process does alone is writing a checkpoint."""

SHARDING = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def world() -> int:
    """The number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, 0 for the main one."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this is the main process, the only one that writes files."""
    return rank() == 0


def require_one(command: str) -> None:
    """Check that this is the only process.

    Raises:
        RequestError: more than one process was started.
    """
    if world() > 1:
        raise RequestError(
            f"progrpo {command} runs as one process, not {world()}: only `train` can be started by a launcher"
        )


def require_whole_weights() -> None:
    """Check that the launcher does not shard the weights over the processes.

    Raises:
        RequestError: FSDP or DeepSpeed is configured.
    """
    for variable, name in SHARDING.items():
        if os.environ.get(variable, "false").lower() == "true":
            raise RequestError(
                f"{name} is not supported: every process holds the whole policy (accelerate's --multi_gpu)"
            )


def join(device: str) -> None:
    """Connect to the other processes, and select this process's GPU if ``device`` is cuda.

    It has to be called before any collective function.
    """
    from accelerate import PartialState

    if device == "cpu":  # accelerate's own name would be cpu:0, which torch.load does not accept as a location
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState(cpu=device == "cpu", timeout=PATIENCE)


def broadcast(value: object) -> None:
    """Send a value from the main process to the others, which call :func:`receive_broadcast`. Collective."""
    if world() > 1:
        from accelerate.utils import broadcast_object_list

        broadcast_object_list([value])


def receive_broadcast() -> Any:
    """Return the value that the main process sends. Collective, called by all processes but the main one."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([None])[0]


def all_gather(value: T) -> list[T]:
    """Return the ``value`` of every process, in order of rank, on every process. Collective."""
    if world() == 1:
        return [value]
    from accelerate.utils import gather_object

    gathered: list[T] = gather_object([value])
    return gathered
