"""One process's part of a rollout, as what works on it sees it: values and three functions, never the trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Batch = dict[str, Any]
"""A rollout as TRL hands it on, or the part of it in a micro-batch: names to tensors with a row a completion."""
Gather = Callable[[torch.Tensor], torch.Tensor]
"""(B, ...) of this process to (B_global, ...) of all, in the order of the processes. Collective: all call it."""


@dataclass(frozen=True)
class Shard:
    """Which rows of a rollout are this process's, and how it asks the policy and the other processes."""

    rows: slice
    """The place of this process's rows among those of all processes; groups are contiguous there."""
    group_size: int
    """G, completions a prompt."""
    world: int
    """How many processes share the rollout; each has as many rows."""
    gather: Gather
    score: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
    """(ids (B, T), mask (B, T), K) to the log-probabilities (B, K) of the last K tokens under the policy of now.

    In nats, at the sampling temperature, without gradient.
    """

    @property
    def size(self) -> int:
        """How many rows are this process's."""
        return int(self.rows.stop - self.rows.start)

    @classmethod
    def of(cls, batch: Batch, rank: int, **others: Any) -> Shard:
        """The part of process ``rank``, which holds the rows of ``batch``; ``others`` are the other fields."""
        size = len(batch["prompt_ids"])
        return cls(rows=slice(rank * size, (rank + 1) * size), **others)
