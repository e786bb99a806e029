"""Splits a rollout over processes and each process's part into micro-batches."""

from __future__ import annotations

from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError


def micro_batches(config: Config, world: int) -> tuple[int, int]:
    """Completions in a micro-batch, and micro-batches that each process computes in an update.

    The rollout is cut into ``world`` parts of equal size in the order of its groups; two parts may share a group.

    Raises:
        RequestError: the rollout does not divide evenly. The message names values that do.
    """
    train = config.train
    rollout = train.prompts_per_rollout * train.group_size
    shape = f"a rollout of train.prompts_per_rollout={train.prompts_per_rollout} x train.group_size={train.group_size}"
    if rollout % world:
        prompts = train.prompts_per_rollout
        while prompts * train.group_size % world:
            prompts += 1
        raise RequestError(f"{shape} does not divide over {world} processes; try train.prompts_per_rollout={prompts}")
    per_process = rollout // world
    if config.method.refills() and per_process % train.group_size:
        raise RequestError(
            f"method={config.method.name} resamples groups and needs whole groups on each process: "
            f"train.prompts_per_rollout={train.prompts_per_rollout} is not a multiple of {world} processes"
        )
    micro_batch = min(train.micro_batch_size, per_process)
    if per_process % micro_batch:
        divisor = max(size for size in range(1, micro_batch) if per_process % size == 0)
        raise RequestError(
            f"train.micro_batch_size={train.micro_batch_size} does not divide the {per_process} completions that each "
            f"of {world} processes has of {shape}; try {divisor}"
        )
    return micro_batch, per_process // micro_batch
