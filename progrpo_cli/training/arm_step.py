"""ARM on one rollout inside the trainer: its formulas are in :mod:`progrpo_cli.methods.arm`.

Both confidences come from the policy that sampled. c(q) is the same for a whole group: one pass without gradient over
the unique prompts gives it. c(o|q) costs no pass: TRL has scored the rollout where an update will be off-policy, and
where every update is on-policy the forward pass of the loss itself holds the probabilities.
"""

from __future__ import annotations

import torch

from progrpo_cli.methods import arm as arm_method
from progrpo_cli.methods.base import ArmConfig, Rollout
from progrpo_cli.training.rollout_metrics import mean
from progrpo_cli.training.shard import Batch, Shard

PROMPT, ANSWER, BEFORE, AFTER, SHIFT, SHIFTED, ROW = range(7)
COLUMNS = {"c(q)": PROMPT, "c(o|q)": ANSWER, "A": BEFORE, "A~": AFTER}
"""What the table of completions shows of ARM."""


class ArmStep:
    """From the sampling of a rollout to its metrics.

    ``output`` carries ``arm_row`` and ``arm_prompt_confidence``, which TRL shuffles and splits with the rest, to where
    :meth:`apply` needs them.
    """

    def __init__(self, arm: ArmConfig, output: Batch, rollout: Rollout, shard: Shard) -> None:
        self._arm = arm
        self._shard = shard
        self._correct = rollout.correct.flatten()
        self._scorable = rollout.scorable.flatten()
        gate = arm_method.open_groups(rollout.correct, arm.gate)
        self._gated_fraction = gate.float().mean().item()
        self._gate_open = gate.repeat_interleave(shard.group_size)
        self._missing = shard.size
        self._rows: list[torch.Tensor] = []
        output["arm_prompt_confidence"] = self._prompt_confidence(output["prompt_ids"], output["prompt_mask"])
        output["arm_row"] = torch.arange(shard.size, device=output["prompt_ids"].device)

    @property
    def complete(self) -> bool:
        """Whether every row of the rollout has its advantage."""
        return self._missing == 0

    def apply(self, batch: Batch, logps: torch.Tensor) -> None:
        """Re-weight ``batch["advantages"]``, (B,) or some of its rows.

        Args:
            batch: the rollout, or the part of it that a micro-batch holds.
            logps: (B, C) log-probabilities of its completions under the policy that sampled them, no gradient.
        """
        rows, here = batch["arm_row"], self._shard.rows
        before = batch["advantages"]
        prompt_confidence = batch["arm_prompt_confidence"]
        answer_confidence = arm_method.confidence(logps.float(), batch["completion_mask"], self._arm.low_fraction)
        result = arm_method.reweight(
            before,
            prompt_confidence,
            answer_confidence,
            correct=self._correct[here][rows],
            scorable=self._scorable[here][rows],
            gate_open=self._gate_open[here][rows],
            arm=self._arm,
        )
        batch["advantages"] = result.advantages
        columns = [prompt_confidence, answer_confidence, before, result.advantages, result.shift, result.shifted, rows]
        self._rows.append(torch.stack([column.float() for column in columns], dim=1))
        self._missing -= len(rows)

    def finish(self) -> tuple[dict[str, float | None], dict[str, list[float]]]:
        """The contract's metrics of ARM, and the columns of TRL's table of completions (B_global values each).

        A collective operation: every process calls it, once every row has its advantage.
        """
        local = torch.cat(self._rows)
        local = local[local[:, ROW].argsort()]
        table = self._shard.gather(local)  # in the order of TRL's own log
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
        """(B,) c(q), from one pass over each prompt once."""
        shard, size = self._shard, self._shard.group_size
        # A group may straddle processes: the rows of one prompt are those of one group among all processes' rows.
        group = torch.arange(shard.rows.start, shard.rows.stop, device=ids.device) // size
        unique, which = torch.unique(group, return_inverse=True)
        first = torch.searchsorted(group, unique)
        # Every process makes the same number of passes, as sharded weights need: as many as the one with most prompts.
        starts = range(0, shard.size * shard.world, shard.size)
        most = max((start + shard.size - 1) // size - start // size + 1 for start in starts)
        first = torch.cat([first, first[-1:].expand(most - len(first))])
        predicted = ids.size(1) - 1
        if predicted == 0:  # prompts of one token: nothing is predicted, there is no confidence
            return torch.full((shard.size,), torch.nan, device=ids.device)
        logps = shard.score(ids[first], mask[first], predicted)
        scored = arm_method.prompt_token_mask(mask[first])
        return arm_method.confidence(logps.float(), scored, self._arm.prompt_low_fraction)[which]
