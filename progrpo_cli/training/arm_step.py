"""Applies ARM to one rollout inside the trainer. The formulas, T_low included, are in :mod:`progrpo_cli.methods.arm`.

Both confidences are computed from the policy that sampled. c(q) is shared by a group and takes one pass without
gradient over the unique prompts. c(o|q) needs no extra pass: if some updates are off-policy, TRL has already scored the
rollout; if all are on-policy, the forward pass of the loss has the log-probabilities.
"""

from __future__ import annotations

import torch

from progrpo_cli.methods import arm as arm_method
from progrpo_cli.methods.base import ArmConfig, Rollout
from progrpo_cli.training.rollout_metrics import mean
from progrpo_cli.training.shard import Batch, Shard

PROMPT, ANSWER, BEFORE, AFTER, SHIFT, SHIFTED, ROW = range(7)
COLUMNS = {"c(q)": PROMPT, "c(o|q)": ANSWER, "A": BEFORE, "A~": AFTER}
"""Columns that ARM adds to the table of completions."""


class ArmStep:
    """ARM on one rollout, from its sampling to its metrics.

    Adds ``arm_row`` and ``arm_prompt_confidence`` to ``output``. TRL shuffles and splits them with the other tensors,
    and :meth:`apply` reads them from its micro-batch.
    """

    def __init__(self, arm: ArmConfig, output: Batch, rollout: Rollout, shard: Shard) -> None:
        self._arm = arm
        self._shard = shard
        self._correct = rollout.correct.flatten()
        self._scorable = rollout.scorable.flatten()
        gate = arm_method.open_groups(rollout.correct, arm.gate)
        self._gated_fraction = gate.float().mean().item()
        self._gate_open = gate.repeat_interleave(shard.group_size)
        self._remaining = shard.size
        self._rows: list[torch.Tensor] = []
        output["arm_prompt_confidence"] = self._prompt_confidence(output["prompt_ids"], output["prompt_mask"])
        output["arm_row"] = torch.arange(shard.size, device=output["prompt_ids"].device)

    @property
    def complete(self) -> bool:
        """Whether all rows of the rollout have been re-weighted."""
        return self._remaining == 0

    def apply(self, batch: Batch, logps: torch.Tensor) -> None:
        """Re-weight ``batch["advantages"]``, (B,).

        Args:
            batch: this process's part of the rollout, or one of its micro-batches.
            logps: (B, C) log-probabilities of the completions under the policy that sampled them, without gradient.
        """
        rows, shard_rows = batch["arm_row"], self._shard.rows
        before = batch["advantages"]
        prompt_confidence = batch["arm_prompt_confidence"]
        answer_confidence = arm_method.confidence(logps.float(), batch["completion_mask"], self._arm.low_fraction)
        result = arm_method.reweight(
            before,
            prompt_confidence,
            answer_confidence,
            correct=self._correct[shard_rows][rows],
            scorable=self._scorable[shard_rows][rows],
            gate_open=self._gate_open[shard_rows][rows],
            arm=self._arm,
        )
        batch["advantages"] = result.advantages
        columns = [prompt_confidence, answer_confidence, before, result.advantages, result.shift, result.shifted, rows]
        self._rows.append(torch.stack([column.float() for column in columns], dim=1))
        self._remaining -= len(rows)

    def finish(self) -> tuple[dict[str, float | None], dict[str, list[float]]]:
        """Return ARM's metrics and its columns of the table of completions (B_global values each).

        Collective: all processes call it, once :attr:`complete` is true.
        """
        local = torch.cat(self._rows)
        local = local[local[:, ROW].argsort()]
        table = self._shard.gather(local)  # in the row order of TRL's own log
        shift = table[table[:, SHIFTED].bool(), SHIFT]
        metrics = {
            "arm/prompt_confidence": mean(table[:, PROMPT]),
            "arm/answer_confidence": mean(table[:, ANSWER]),
            "arm/answer_confidence_correct": mean(table[self._correct, ANSWER]),
            "arm/shift_mean": mean(shift),
            "arm/shift_std": shift.std().item() if shift.numel() > 1 else None,
            "arm/gated_fraction": self._gated_fraction,
            "arm/sign_flips": float(arm_method.sign_flips(table[:, BEFORE], table[:, AFTER]).item()),
        }
        return metrics, {name: table[:, column].tolist() for name, column in COLUMNS.items()}

    def _prompt_confidence(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """c(q) of each row, (B,). Each distinct prompt is scored once."""
        shard, size = self._shard, self._shard.group_size
        # A group may span two processes, so groups are numbered over the rows of all processes.
        group = torch.arange(shard.rows.start, shard.rows.stop, device=ids.device) // size
        unique, prompt_index = torch.unique(group, return_inverse=True)
        first = torch.searchsorted(group, unique)
        # Sharded weights need the same batch on every process: pad to the largest number of prompts of any process.
        starts = range(0, shard.size * shard.world, shard.size)
        most_prompts = max((start + shard.size - 1) // size - start // size + 1 for start in starts)
        first = torch.cat([first, first[-1:].expand(most_prompts - len(first))])
        predicted = ids.size(1) - 1
        if predicted == 0:  # a prompt of one token has no predicted token and so no confidence
            return torch.full((shard.size,), torch.nan, device=ids.device)
        logps = shard.score(ids[first], mask[first], predicted)
        scored = arm_method.prompt_token_mask(mask[first])
        return arm_method.confidence(logps.float(), scored, self._arm.prompt_low_fraction)[prompt_index]
