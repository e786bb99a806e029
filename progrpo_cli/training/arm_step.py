"""ARM on one rollout inside the trainer: its formulas are in :mod:`progrpo_cli.methods.arm`.

Both confidences come from the policy that sampled. c(q) is the same for a whole group: one pass without gradient over
the unique prompts gives it. c(o|q) costs no pass: TRL has scored the rollout where an update will be off-policy, and
where every update is on-policy the forward pass of the loss itself holds the probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from trl.models.utils import disable_gradient_checkpointing

from progrpo_cli.methods import arm as arm_method
from progrpo_cli.methods.base import ArmConfig, Rollout
from progrpo_cli.training.rollout_metrics import mean

if TYPE_CHECKING:
    from progrpo_cli.training.trainer import LabTrainer

PROMPT, ANSWER, BEFORE, AFTER, SHIFT, SHIFTED, ROW = range(7)


class ArmStep:
    """From the sampling of a rollout to its metrics.

    ``output`` carries ``arm_row`` and ``arm_prompt_confidence``, which TRL shuffles and splits with the rest, to where
    :meth:`apply` needs them.
    """

    def __init__(self, trainer: LabTrainer, arm: ArmConfig, output: dict[str, Any], rollout: Rollout) -> None:
        self._trainer = trainer
        self._arm = arm
        self._here = trainer._here(output)
        self._group_size = rollout.correct.size(1)
        self._correct = rollout.correct.flatten()
        self._scorable = rollout.scorable.flatten()
        gate = arm_method.open_groups(rollout.correct, arm.gate)
        self._gated_fraction = gate.float().mean().item()
        self._gate_open = gate.repeat_interleave(self._group_size)
        self._missing = len(output["prompt_ids"])
        self._rows: list[torch.Tensor] = []
        output["arm_prompt_confidence"] = self._prompt_confidence(output)
        output["arm_row"] = torch.arange(self._missing, device=output["prompt_ids"].device)

    @property
    def complete(self) -> bool:
        """Whether every row of the rollout has its advantage."""
        return self._missing == 0

    def apply(self, batch: dict[str, Any], logps: torch.Tensor) -> None:
        """Re-weight ``batch["advantages"]``, (B,) or some of its rows.

        Args:
            batch: the rollout, or the part of it that a micro-batch holds.
            logps: (B, C) log-probabilities of its completions under the policy that sampled them, no gradient.
        """
        rows = batch["arm_row"]
        before = batch["advantages"]
        prompt_confidence = batch["arm_prompt_confidence"]
        answer_confidence = arm_method.confidence(logps.float(), batch["completion_mask"], self._arm.low_fraction)
        result = arm_method.reweight(
            before,
            prompt_confidence,
            answer_confidence,
            correct=self._correct[self._here][rows],
            scorable=self._scorable[self._here][rows],
            gate_open=self._gate_open[self._here][rows],
            arm=self._arm,
        )
        batch["advantages"] = result.advantages
        columns = [prompt_confidence, answer_confidence, before, result.advantages, result.shift, result.shifted, rows]
        self._rows.append(torch.stack([column.float() for column in columns], dim=1))
        self._missing -= len(rows)

    def finish(self) -> dict[str, float | None]:
        """The contract's metrics of ARM over all processes, and a row a sample for TRL's table of completions.

        A collective operation: every process calls it.
        """
        local = torch.cat(self._rows)
        local = local[local[:, ROW].argsort()]
        table = self._trainer.accelerator.gather(local)  # in the order of TRL's own log
        extra = self._trainer._logs["extra"]
        for name, column in (("c(q)", PROMPT), ("c(o|q)", ANSWER), ("A", BEFORE), ("A~", AFTER)):
            extra[name].extend(table[:, column].tolist())
        shift = table[table[:, SHIFTED].bool(), SHIFT]
        return {
            "arm/prompt_confidence": mean(table[:, PROMPT]),
            "arm/answer_confidence": mean(table[:, ANSWER]),
            "arm/answer_confidence_correct": mean(table[self._correct, ANSWER]),
            "arm/shift_mean": mean(shift),
            "arm/shift_std": shift.std().item() if shift.numel() > 1 else None,
            "arm/gated_fraction": self._gated_fraction,
            "arm/sign_flips": float(arm_method.sign_flips(table[:, BEFORE], table[:, AFTER]).item()),
        }

    def _prompt_confidence(self, output: dict[str, Any]) -> torch.Tensor:
        """(B,) c(q), from one pass over each prompt once."""
        trainer, size = self._trainer, self._group_size
        ids, mask = output["prompt_ids"], output["prompt_mask"]
        # A group may straddle processes: the rows of one prompt are those of one group among all processes' rows.
        group = torch.arange(self._here.start, self._here.stop, device=ids.device) // size
        unique, which = torch.unique(group, return_inverse=True)
        first = torch.searchsorted(group, unique)
        # Every process makes the same number of passes, as sharded weights need: as many as the one with most prompts.
        rows = self._here.stop - self._here.start
        most = max((start + rows - 1) // size - start // size + 1 for start in self._starts(rows))
        first = torch.cat([first, first[-1:].expand(most - len(first))])
        predicted = ids.size(1) - 1
        if predicted == 0:  # prompts of one token: nothing is predicted, there is no confidence
            return torch.full((rows,), torch.nan, device=ids.device)
        checkpointing = trainer.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(trainer.model, checkpointing):
            logps, _, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model,
                ids[first],
                mask[first],
                predicted,
                batch_size=trainer.args.per_device_train_batch_size,
            )
        scored = arm_method.prompt_token_mask(mask[first])
        confidence = arm_method.confidence(logps.float(), scored, self._arm.prompt_low_fraction)
        return confidence[which]

    def _starts(self, rows: int) -> range:
        """The first row of each process."""
        return range(0, rows * self._trainer.accelerator.num_processes, rows)
