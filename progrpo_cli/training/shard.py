"""One process's part of a rollout, for code that needs its values and two functions but not the trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Batch = dict[str, Any]
"""A rollout in TRL's form, or one of its micro-batches: tensors by name, with one row per completion."""
Gather = Callable[[torch.Tensor], torch.Tensor]
"""Concatenates the tensors (B, ...) of all processes to (B_global, ...), in the order of the processes. Collective."""


@dataclass(frozen=True)
class Shard:
    """The rows of a rollout that this process holds, with access to the policy and to the other processes."""

    rows: slice
    """Position of this process's rows among those of all processes. The rows of a group are contiguous there."""
    group_size: int
    """G, completions per prompt."""
    world: int
    """Number of processes that share the rollout. All have the same number of rows."""
    gather: Gather
    score: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
    """(ids (B, T), mask (B, T), K) -> log-probabilities (B, K) of the last K tokens under the current policy.

    In nats, at the sampling temperature, without gradient.
    """

    @property
    def size(self) -> int:
        """Number of this process's rows."""
        return int(self.rows.stop - self.rows.start)

    @classmethod
    def from_batch(cls, batch: Batch, rank: int, **fields: Any) -> Shard:
        """The shard of process ``rank``, which holds ``batch``; ``fields`` are all fields but ``rows``."""
        size = len(batch["prompt_ids"])
        return cls(rows=slice(rank * size, (rank + 1) * size), **fields)
