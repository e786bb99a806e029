"""How a rollout is divided over processes, and on each of them over forward and backward passes."""

from __future__ import annotations

from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError


def micro_batches(config: Config, world: int) -> tuple[int, int]:
    """Completions in one pass of one process, and how many passes each process makes in an update.

    A rollout is ``world`` parts of the same size in the order of its groups; a group may be in two of them.

    Raises:
        RequestError: the rollout cannot be divided so; the line names values that can.
    """
    train = config.train
    rollout = train.prompts_per_rollout * train.group_size
    shape = f"a rollout of train.prompts_per_rollout={train.prompts_per_rollout} x train.group_size={train.group_size}"
    if rollout % world:
        more = train.prompts_per_rollout
        while more * train.group_size % world:
            more += 1
        raise RequestError(f"{shape} does not divide over {world} processes; try train.prompts_per_rollout={more}")
    share = rollout // world
    if config.method.refills() and share % train.group_size:
        raise RequestError(
            f"method={config.method.name} samples groups anew and needs whole ones on each process: "
            f"train.prompts_per_rollout={train.prompts_per_rollout} is no multiple of {world} processes"
        )
    micro_batch = min(train.micro_batch_size, share)
    if share % micro_batch:
        fits = max(size for size in range(1, micro_batch) if share % size == 0)
        raise RequestError(
            f"train.micro_batch_size={train.micro_batch_size} does not divide the {share} completions that each of "
            f"{world} processes has of {shape}; try {fits}"
        )
    return micro_batch, share // micro_batch
