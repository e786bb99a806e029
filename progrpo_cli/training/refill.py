"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): sample more prompts until every group is mixed.

A refill samples a rollout of the same shape, and the mixed groups of all of them are put together. Every process fills
its own part of the rollout, which must hold whole groups, and all sample the same number of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError

if TYPE_CHECKING:
    from progrpo_cli.training.trainer import LabTrainer

Rows = list[dict[str, Any]]
PromptSource = Callable[[int, int], Rows]
"""(updates made, number of the refill) -> the rows of a whole rollout, each prompt once; no state: a resumed run draws
the same prompts."""

LEFT_PADDED = ("prompt_ids", "prompt_mask")


@dataclass
class Sampled:
    """One rollout of this process, and the rows that TRL logged of it."""

    output: dict[str, Any]
    rewards: torch.Tensor
    """(B, functions)."""
    mixed: torch.Tensor
    """(groups,) bool."""
    logged: dict[str, list[Any]]


@dataclass
class Refilled:
    """What is trained on, and what was sampled for it."""

    output: dict[str, Any]
    rewards: torch.Tensor
    """(B_global, functions) of ``output``."""
    everything: torch.Tensor
    """(rollouts * B_global, functions): the rewards of all that was sampled."""
    metrics: dict[str, float | None]


class Refill:
    """Samples again, at most ``limit`` times a rollout."""

    def __init__(self, limit: int, prompts: PromptSource) -> None:
        self._limit = limit
        self._prompts = prompts
        self._warned = False

    def __call__(
        self, trainer: LabTrainer, first: dict[str, Any], sample: Callable[[Rows], dict[str, Any]]
    ) -> Refilled:
        """Put a rollout of mixed groups together.

        Args:
            first: the rollout as it was sampled.
            sample: samples a rollout of the given rows on this process.

        Raises:
            RequestError: a process holds a part of a group.
        """
        size, rows = trainer.num_generations, len(first["prompt_ids"])
        if rows % size:
            raise RequestError(
                f"dynamic sampling needs whole groups on each process: {rows} completions are no multiple of "
                f"train.group_size={size}"
            )
        everything = [trainer._rewards]
        sampled = [self._take(trainer, first)]
        while len(sampled) <= self._limit and not self._enough(trainer, sampled, rows // size):
            prompts = [row for row in self._prompts(trainer.state.global_step, len(sampled)) for _ in range(size)]
            here = trainer._here(first)
            sampled.append(self._take(trainer, sample(prompts[here])))
            everything.append(trainer._rewards)
        merged, kept = merge(sampled, rows // size, size, trainer._tokenizer.pad_token_id)
        merged.output["num_items_in_batch"] = trainer.accelerator.gather(merged.output["completion_mask"].sum()).sum()
        for name, values in merged.logged.items():
            self._log_of(trainer, name).extend(gather_object(values))
        metrics = self._metrics(trainer, sampled, kept, rows // size)
        return Refilled(merged.output, trainer.accelerator.gather(merged.rewards), torch.cat(everything), metrics)

    def _take(self, trainer: LabTrainer, output: dict[str, Any]) -> Sampled:
        here = trainer._here(output)
        rewards = trainer._rewards[here]
        right = (rewards[:, trainer.correctness_column] > 0).view(-1, trainer.num_generations)
        names = ["prompt", "completion", "advantages", *(f"rewards/{name}" for name in trainer.reward_func_names)]
        # TRL's log holds the newest rollout of all processes and nothing else.
        logged = {name: list(self._log_of(trainer, name))[here] for name in names}
        return Sampled(output, rewards, right.any(dim=1) & ~right.all(dim=1), logged)

    @staticmethod
    def _log_of(trainer: LabTrainer, name: str) -> Any:
        column = name.removeprefix("rewards/")
        return trainer._logs["rewards"][column] if column != name else trainer._logs[name]

    @staticmethod
    def _enough(trainer: LabTrainer, sampled: list[Sampled], groups: int) -> bool:
        missing = groups - sum(int(one.mixed.sum()) for one in sampled)
        here = torch.tensor([missing], device=sampled[0].rewards.device)
        return bool(trainer.accelerator.gather(here).max() <= 0)

    def _metrics(self, trainer: LabTrainer, sampled: list[Sampled], kept: int, groups: int) -> dict[str, float | None]:
        device = sampled[0].rewards.device
        counts = torch.tensor([[sum(int(one.mixed.sum()) for one in sampled), kept]], device=device)
        mixed, used = trainer.accelerator.gather(counts).sum(dim=0).tolist()
        there_are = groups * trainer.accelerator.num_processes
        name = trainer._method.name
        if used < there_are and not self._warned:
            self._warned = True
            log.warning(
                f"only {used} of {there_are} groups are mixed after {self._limit} refills: the others are kept without "
                f"an advantage; this is said once, {name}/unmixed_groups_kept counts them"
            )
        return {
            f"{name}/rollouts_sampled": float(len(sampled)),
            f"{name}/mixed_fraction": mixed / (there_are * len(sampled)),
            f"{name}/unmixed_groups_kept": float(there_are - used),
        }


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
