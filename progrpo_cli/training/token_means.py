"""Means over the tokens of a whole update; TRL averages the means of its micro-batches, whatever their tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from trl import GRPOTrainer

CLIP_FRACTIONS = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")


class TokenMeans:
    """How many tokens the micro-batches of an update have: from its first micro-batch until it is logged."""

    def __init__(self) -> None:
        self._tokens: list[torch.Tensor] = []
        self._other = set[str]()

    def count(self, mask: torch.Tensor) -> None:
        """Add a micro-batch of this process, (B, T), 1 on completion tokens."""
        self._tokens.append(mask.sum())

    def leave_out(self, name: str) -> None:
        """A metric that is no mean over tokens, now and later."""
        self._other.add(name)

    def pool(self, metrics: dict[str, list[float]], sum_over_processes: Callable[[torch.Tensor], Any]) -> None:
        """Replace the means of the micro-batches by that over all their tokens; then begin anew. Collective."""
        if not self._tokens:
            return
        tokens = sum_over_processes(torch.stack(self._tokens)).tolist()
        self._tokens.clear()
        for name in {"entropy", "kl", *CLIP_FRACTIONS} - self._other:
            if means := metrics.get(name):
                total = sum(mean * count for mean, count in zip(means, tokens, strict=True))
                metrics[name] = [total / sum(tokens)]


class PoolsTokenMeans(GRPOTrainer):  # type: ignore[misc]  # TRL is not typed
    """Logs means over tokens over those of all micro-batches and processes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token_means = TokenMeans()
        if self.importance_sampling_level == "sequence":
            for name in CLIP_FRACTIONS:
                self._token_means.leave_out(name)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self._token_means.pool(self._metrics["train"], self.accelerator.reduce)  # which sums
        super().log(logs, start_time)
