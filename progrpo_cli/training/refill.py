"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): sample more prompts until every group is mixed.

A group is mixed if it has right and wrong completions. Each refill samples another rollout of the same shape, and the
mixed groups of all of them form the rollout to train on. Every process fills its own part, which must hold whole
groups, and all processes sample the same number of times.
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
"""(updates made, number of the refill) -> the rows of a whole rollout, each prompt once.

It must be stateless, so that a resumed run draws the same prompts."""

LEFT_PADDED = ("prompt_ids", "prompt_mask")


@dataclass(frozen=True)
class SampledRollout:
    """One rollout as it was sampled."""

    output: Batch
    """The rows of this process, (B, ...)."""
    rewards: torch.Tensor
    """Rewards of all processes' rows, (B_global, functions)."""
    logged: dict[str, list[Any]]
    """TRL's logged columns by name, with the rows of all processes."""


@dataclass
class LocalRollout:
    """This process's part of a rollout."""

    output: Batch
    rewards: torch.Tensor
    """(B, functions)."""
    mixed: torch.Tensor
    """Whether each group is mixed, (groups,) bool."""
    logged: dict[str, list[Any]]


@dataclass(frozen=True)
class RefilledRollout:
    """The rollout to train on, and the rewards of all samples drawn for it."""

    output: Batch
    rewards: torch.Tensor
    """Rewards of ``output`` on all processes, (B_global, functions)."""
    sampled_rewards: torch.Tensor
    """Rewards of all sampled rollouts, (rollouts * B_global, functions)."""
    metrics: dict[str, float | None]
    logged: dict[str, list[Any]]
    """Columns of all processes' rows, to replace those that TRL logged."""


class Refill:
    """Replaces the groups of a rollout that are not mixed.

    Args:
        method: name of the method, the prefix of the metrics.
        limit: rollouts sampled beyond the first, at most.
        prompts: source of the prompts.
        correctness: index of the correctness reward among the reward functions.
        pad_token_id: token that fills shorter rows.
    """

    def __init__(self, method: str, limit: int, prompts: PromptSource, *, correctness: int, pad_token_id: int) -> None:
        self._method = method
        self._limit = limit
        self._prompts = prompts
        self._correctness = correctness
        self._pad_token_id = pad_token_id
        self._warned = False

    def __call__(
        self, first: SampledRollout, shard: Shard, updates: int, sample: Callable[[Rows], SampledRollout]
    ) -> RefilledRollout:
        """Assemble a rollout of mixed groups. Collective.

        Args:
            first: the rollout as it was sampled.
            shard: this process's part of it.
            updates: number of updates made so far.
            sample: samples a rollout for this process's rows.

        Raises:
            RequestError: a group is split over processes.
        """
        size, groups = shard.group_size, shard.size // shard.group_size
        if shard.size % size:
            raise RequestError(
                f"dynamic sampling needs whole groups on each process: {shard.size} completions are not a multiple of "
                f"train.group_size={size}"
            )
        sampled_rewards = [first.rewards]
        parts = [self._local_part(first, shard)]
        while len(parts) <= self._limit and not _has_enough(parts, groups, shard):
            prompts = [row for row in self._prompts(updates, len(parts)) for _ in range(size)]
            refill = sample(prompts[shard.rows])
            parts.append(self._local_part(refill, shard))
            sampled_rewards.append(refill.rewards)
        merged, used = merge(parts, groups, size, self._pad_token_id)
        merged.output["num_items_in_batch"] = shard.gather(merged.output["completion_mask"].sum()).sum()
        logged = {name: gather_object(values) for name, values in merged.logged.items()}
        metrics = self._metrics(parts, used, groups, shard)
        return RefilledRollout(merged.output, shard.gather(merged.rewards), torch.cat(sampled_rewards), metrics, logged)

    def _local_part(self, rollout: SampledRollout, shard: Shard) -> LocalRollout:
        rewards = rollout.rewards[shard.rows]
        right = (rewards[:, self._correctness] > 0).view(-1, shard.group_size)
        logged = {name: values[shard.rows] for name, values in rollout.logged.items()}
        return LocalRollout(rollout.output, rewards, right.any(dim=1) & ~right.all(dim=1), logged)

    def _metrics(self, parts: list[LocalRollout], used: int, groups: int, shard: Shard) -> dict[str, float | None]:
        device = parts[0].rewards.device
        counts = torch.tensor([[sum(int(part.mixed.sum()) for part in parts), used]], device=device)
        mixed, used = shard.gather(counts).sum(dim=0).tolist()
        wanted = groups * shard.world
        if used < wanted and not self._warned:
            self._warned = True
            log.warning(
                f"only {used} of {wanted} groups are mixed after {self._limit} refills; the others stay with the "
                f"advantage 0. This warning is given once; {self._method}/unmixed_groups_kept counts them"
            )
        return {
            f"{self._method}/rollouts_sampled": float(len(parts)),
            f"{self._method}/mixed_fraction": mixed / (wanted * len(parts)),
            f"{self._method}/unmixed_groups_kept": float(wanted - used),
        }


def _has_enough(parts: list[LocalRollout], groups: int, shard: Shard) -> bool:
    """Whether every process has at least ``groups`` mixed groups."""
    missing = groups - sum(int(part.mixed.sum()) for part in parts)
    return bool(shard.gather(torch.tensor([missing], device=parts[0].rewards.device)).max() <= 0)


def merge(parts: list[LocalRollout], groups: int, size: int, pad_token_id: int) -> tuple[LocalRollout, int]:
    """Take the first ``groups`` mixed groups of ``parts``; if there are fewer, add unmixed groups of the first rollout.

    Added groups only keep the rollout's shape: dynamic sampling does not train on them, so their advantage is 0 even if
    something other than correctness was rewarded.

    Returns:
        The merged rollout, padded like TRL's (prompts left, completions right), and the number of its mixed groups.
    """
    chosen = [(i, int(g)) for i, part in enumerate(parts) for g in part.mixed.nonzero().flatten()][:groups]
    mixed = len(chosen)
    chosen += [(0, int(g)) for g in (~parts[0].mixed).nonzero().flatten()][: groups - mixed]
    rows = [(i, row) for i, group in chosen for row in range(group * size, (group + 1) * size)]
    output: dict[str, Any] = {}
    for name, value in parts[0].output.items():
        if value.ndim == 0:
            output[name] = value
            continue
        width = max(part.output[name].size(1) for part in parts) if value.ndim > 1 else 0
        filler = pad_token_id if name.endswith("_ids") else 0
        padded = [
            _pad(part.output[name], width, filler, left=name in LEFT_PADDED) if value.ndim > 1 else part.output[name]
            for part in parts
        ]
        output[name] = torch.stack([padded[i][row] for i, row in rows])
    rewards = torch.stack([parts[i].rewards[row] for i, row in rows])
    logged = {name: [parts[i].logged[name][row] for i, row in rows] for name in parts[0].logged}
    output["advantages"][mixed * size :] = 0.0
    logged["advantages"][mixed * size :] = [0.0] * len(rows[mixed * size :])
    return LocalRollout(output, rewards, torch.arange(groups) < mixed, logged), mixed


def _pad(tensor: torch.Tensor, width: int, filler: int, *, left: bool) -> torch.Tensor:
    missing = width - tensor.size(1)
    return torch.nn.functional.pad(tensor, (missing, 0) if left else (0, missing), value=filler)
