"""Means over all tokens of an update. TRL averages the means of its micro-batches, regardless of their token counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from trl import GRPOTrainer

CLIP_FRACTIONS = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")


class TokenMeans:
    """Counts the tokens of each micro-batch, from the first of an update until the update is logged."""

    def __init__(self) -> None:
        self._tokens: list[torch.Tensor] = []
        self._excluded = set[str]()

    def count(self, mask: torch.Tensor) -> None:
        """Add a micro-batch of this process; ``mask`` (B, T) is 1 on completion tokens."""
        self._tokens.append(mask.sum())

    def exclude(self, name: str) -> None:
        """Never pool this metric: it is not a mean over tokens."""
        self._excluded.add(name)

    def pool(self, metrics: dict[str, list[float]], sum_over_processes: Callable[[torch.Tensor], Any]) -> None:
        """Replace the micro-batches' means by the mean over all their tokens, and reset the counts. Collective."""
        if not self._tokens:
            return
        tokens = sum_over_processes(torch.stack(self._tokens)).tolist()
        self._tokens.clear()
        for name in {"entropy", "kl", *CLIP_FRACTIONS} - self._excluded:
            if means := metrics.get(name):
                total = sum(mean * count for mean, count in zip(means, tokens, strict=True))
                metrics[name] = [total / sum(tokens)]


class PooledTokenMeansMixin(GRPOTrainer):  # type: ignore[misc]  # TRL is not typed
    """Logs TRL's means over tokens as means over the tokens of all micro-batches and processes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token_means = TokenMeans()
        if self.importance_sampling_level == "sequence":
            for name in CLIP_FRACTIONS:
                self._token_means.exclude(name)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self._token_means.pool(self._metrics["train"], self.accelerator.reduce)  # `reduce` sums
        super().log(logs, start_time)
