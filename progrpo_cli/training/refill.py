"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): sample more prompts until every group is mixed.

A refill samples a rollout of the same shape, and the mixed groups of all of them are put together. Every process fills
its own part of the rollout, which must hold whole groups, and all sample the same number of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.training.shard import Batch, Shard

Rows = list[dict[str, Any]]
PromptSource = Callable[[int, int], Rows]
"""(updates made, number of the refill) -> the rows of a whole rollout, each prompt once; no state: a resumed run draws
the same prompts."""

LEFT_PADDED = ("prompt_ids", "prompt_mask")


@dataclass(frozen=True)
class Sample:
    """One rollout as it was sampled."""

    output: Batch
    """The rows of this process, (B, ...)."""
    rewards: torch.Tensor
    """(B_global, functions)."""
    logged: dict[str, list[Any]]
    """Column -> what TRL logged of the rows of all processes."""


@dataclass
class Sampled:
    """The part of a rollout that is this process's."""

    output: Batch
    rewards: torch.Tensor
    """(B, functions)."""
    mixed: torch.Tensor
    """(groups,) bool."""
    logged: dict[str, list[Any]]


@dataclass(frozen=True)
class Refilled:
    """What is trained on, and what was sampled for it."""

    output: Batch
    rewards: torch.Tensor
    """(B_global, functions) of ``output``."""
    everything: torch.Tensor
    """(rollouts * B_global, functions): the rewards of all that was sampled."""
    metrics: dict[str, float | None]
    logged: dict[str, list[Any]]
    """Column -> the rows of all processes, which take the place of those that TRL logged."""


class Refill:
    """Samples again, at most ``limit`` times a rollout.

    Args:
        method: its name, which stands before the metrics.
        limit: how many more rollouts may be sampled.
        prompts: where they come from.
        correctness: the column of the rewards that says what is right.
        pad_token_id: what shorter rows are filled with.
    """

    def __init__(self, method: str, limit: int, prompts: PromptSource, *, correctness: int, pad_token_id: int) -> None:
        self._method = method
        self._limit = limit
        self._prompts = prompts
        self._correctness = correctness
        self._pad_token_id = pad_token_id
        self._warned = False

    def __call__(self, first: Sample, shard: Shard, updates: int, sample: Callable[[Rows], Sample]) -> Refilled:
        """Put a rollout of mixed groups together.

        Args:
            first: the rollout as it was sampled.
            shard: which part of it is this process's.
            updates: how many have been made.
            sample: samples a rollout of the given rows on this process.

        Raises:
            RequestError: a process holds a part of a group.
        """
        size, groups = shard.group_size, shard.size // shard.group_size
        if shard.size % size:
            raise RequestError(
                f"dynamic sampling needs whole groups on each process: {shard.size} completions are no multiple of "
                f"train.group_size={size}"
            )
        everything = [first.rewards]
        sampled = [self._part_of(first, shard)]
        while len(sampled) <= self._limit and not _is_enough(sampled, groups, shard):
            prompts = [row for row in self._prompts(updates, len(sampled)) for _ in range(size)]
            more = sample(prompts[shard.rows])
            sampled.append(self._part_of(more, shard))
            everything.append(more.rewards)
        merged, kept = merge(sampled, groups, size, self._pad_token_id)
        merged.output["num_items_in_batch"] = shard.gather(merged.output["completion_mask"].sum()).sum()
        logged = {name: gather_object(values) for name, values in merged.logged.items()}
        metrics = self._metrics(sampled, kept, groups, shard)
        return Refilled(merged.output, shard.gather(merged.rewards), torch.cat(everything), metrics, logged)

    def _part_of(self, sample: Sample, shard: Shard) -> Sampled:
        rewards = sample.rewards[shard.rows]
        right = (rewards[:, self._correctness] > 0).view(-1, shard.group_size)
        logged = {name: values[shard.rows] for name, values in sample.logged.items()}
        return Sampled(sample.output, rewards, right.any(dim=1) & ~right.all(dim=1), logged)

    def _metrics(self, sampled: list[Sampled], kept: int, groups: int, shard: Shard) -> dict[str, float | None]:
        device = sampled[0].rewards.device
        counts = torch.tensor([[sum(int(one.mixed.sum()) for one in sampled), kept]], device=device)
        mixed, used = shard.gather(counts).sum(dim=0).tolist()
        wanted = groups * shard.world
        if used < wanted and not self._warned:
            self._warned = True
            log.warning(
                f"only {used} of {wanted} groups are mixed after {self._limit} refills: the others are kept without "
                f"an advantage; this is said once, {self._method}/unmixed_groups_kept counts them"
            )
        return {
            f"{self._method}/rollouts_sampled": float(len(sampled)),
            f"{self._method}/mixed_fraction": mixed / (wanted * len(sampled)),
            f"{self._method}/unmixed_groups_kept": float(wanted - used),
        }


def _is_enough(sampled: list[Sampled], groups: int, shard: Shard) -> bool:
    """Whether every process has mixed groups enough."""
    missing = groups - sum(int(one.mixed.sum()) for one in sampled)
    here = torch.tensor([missing], device=sampled[0].rewards.device)
    return bool(shard.gather(here).max() <= 0)


def merge(sampled: list[Sampled], groups: int, size: int, pad_token_id: int) -> tuple[Sampled, int]:
    """The first ``groups`` mixed groups of ``sampled``; where there are fewer, unmixed ones of the first rollout.

    Those have the advantage 0 whatever else than correctness was rewarded: dynamic sampling leaves them out, and they
    only keep the rollout's shape.

    Returns:
        The rollout put together, every tensor padded as TRL pads (prompts left, completions right), and how many of its
        groups are mixed.
    """
    chosen = [(i, int(g)) for i, one in enumerate(sampled) for g in one.mixed.nonzero().flatten()][:groups]
    mixed = len(chosen)
    chosen += [(0, int(g)) for g in (~sampled[0].mixed).nonzero().flatten()][: groups - mixed]
    rows = [(i, row) for i, group in chosen for row in range(group * size, (group + 1) * size)]
    output: dict[str, Any] = {}
    for name, value in sampled[0].output.items():
        if value.ndim == 0:
            output[name] = value
            continue
        width = max(one.output[name].size(1) for one in sampled) if value.ndim > 1 else 0
        filler = pad_token_id if name.endswith("_ids") else 0
        wide = [
            _widened(one.output[name], width, filler, left=name in LEFT_PADDED) if value.ndim > 1 else one.output[name]
            for one in sampled
        ]
        output[name] = torch.stack([wide[i][row] for i, row in rows])
    rewards = torch.stack([sampled[i].rewards[row] for i, row in rows])
    logged = {name: [sampled[i].logged[name][row] for i, row in rows] for name in sampled[0].logged}
    output["advantages"][mixed * size :] = 0.0
    logged["advantages"][mixed * size :] = [0.0] * len(rows[mixed * size :])
    return Sampled(output, rewards, torch.arange(groups) < mixed, logged), mixed


def _widened(tensor: torch.Tensor, width: int, filler: int, *, left: bool) -> torch.Tensor:
    missing = width - tensor.size(1)
    return torch.nn.functional.pad(tensor, (missing, 0) if left else (0, missing), value=filler)
