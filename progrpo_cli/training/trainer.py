"""TRL's GRPOTrainer with ARM and the metrics of the contract, by the one seam that needs none of TRL's code copied.

``_generate_and_score_completions`` runs once a rollout, before TRL shuffles: groups are contiguous in gathered order.
We call TRL's and edit ``output["advantages"]``. ARM's log-probabilities come from the forward pass in which TRL scores
the rollout anyway: ``_get_per_token_logps_and_entropies`` is then asked for the prompt's positions too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from trl import GRPOTrainer

from progrpo_cli.config.schema import ArmConfig
from progrpo_cli.methods import arm as arm_method
from progrpo_cli.metrics.passk import pass_at_k_per_problem

Batch = dict[str, Any]


class LabTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL is not typed
    """GRPO in the shared recipe; with ``arm`` it is ProGRPO.

    Args:
        arm: ARM's options, or None for the plain group-relative advantage.
        correctness_column: which reward function says whether a completion is RIGHT; ARM's gate and Pass@k look at it
            alone, never at a bonus.
        **kwargs: see :class:`trl.GRPOTrainer`.
    """

    def __init__(self, *, arm: ArmConfig | None, correctness_column: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._arm = arm
        self._correctness_column = correctness_column
        self._scoring_rollout = False
        self._prompt_logps: torch.Tensor | None = None
        self._rewards = torch.empty(0)
        self.rollout_metrics: dict[str, float | None] = {}
        """Of the rollout that the current update is made on: an update that reuses a rollout reports them again."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card: the run directory's manifest says more, and TRL's names a hub repository that does not exist."""

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._rewards = super()._calculate_rewards(*args, **kwargs)  # (B_global, functions), the same on every rank
        return self._rewards

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if not self._scoring_rollout:
            result: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
            result = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, **kwargs
            )
            return result
        every_prediction = input_ids.size(1) - 1
        logps, entropies, aux_loss = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, every_prediction, **kwargs
        )
        self._prompt_logps = logps[:, : every_prediction - logits_to_keep]
        return logps[:, -logits_to_keep:], entropies, aux_loss

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        self._scoring_rollout = self._arm is not None
        try:
            output: Batch = super()._generate_and_score_completions(inputs)
            if self._arm is not None:
                logps = self._completion_logps(output)
        finally:
            self._scoring_rollout = False
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        rewards = self._rewards[:, self._correctness_column]
        correct = (rewards > 0).view(-1, group_size)  # NaN, a completion that nobody could score, is not right
        self.rollout_metrics = _pass_at_k(correct)
        if self._arm is not None:
            self._apply_arm(self._arm, output, logps, correct)
        return output

    def _completion_logps(self, output: Batch) -> torch.Tensor:
        """(B, C) log-probabilities of the completions under the policy that sampled them."""
        if self._prompt_logps is not None and "old_per_token_logps" in output:
            old: torch.Tensor = output["old_per_token_logps"]
            return old
        # Every update on-policy: TRL needs no old log-probabilities and scored nothing, so ARM makes the pass itself.
        with torch.no_grad():
            logps, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
                torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
                output["completion_ids"].size(1),
                batch_size=self.args.per_device_train_batch_size,
            )
        return logps

    def _apply_arm(self, arm: ArmConfig, output: Batch, logps: torch.Tensor, correct: torch.Tensor) -> None:
        assert self._prompt_logps is not None
        before: torch.Tensor = output["advantages"]
        prompt_mask = arm_method.prompt_token_mask(output["prompt_mask"])
        prompt_confidence = arm_method.confidence(self._prompt_logps, prompt_mask, arm.prompt_low_fraction)
        answer_confidence = arm_method.confidence(logps, output["completion_mask"], arm.low_fraction)
        self._prompt_logps = None

        start = self.accelerator.process_index * len(before)
        here = slice(start, start + len(before))
        group_size = correct.size(1)
        gate_open = arm_method.open_groups(correct, arm.gate)
        result = arm_method.reweight(
            before,
            prompt_confidence,
            answer_confidence,
            correct=correct.flatten()[here],
            scorable=~torch.isnan(self._rewards[here]).all(dim=1),
            gate_open=gate_open.repeat_interleave(group_size)[here],
            arm=arm,
        )
        output["advantages"] = result.advantages

        gathered = self.accelerator.gather(
            torch.stack(
                [
                    prompt_confidence,
                    answer_confidence,
                    before.to(prompt_confidence.dtype),
                    result.advantages.to(prompt_confidence.dtype),
                    result.shift.to(prompt_confidence.dtype),
                    result.shifted.to(prompt_confidence.dtype),
                ],
                dim=1,
            )
        )
        c_prompt, c_answer, a_before, a_after, shift, shifted = gathered.unbind(dim=1)
        shift = shift[shifted.bool()]
        self.rollout_metrics |= {
            "arm/prompt_confidence": _mean(c_prompt),
            "arm/answer_confidence": _mean(c_answer),
            "arm/answer_confidence_correct": _mean(c_answer[correct.flatten()]),
            "arm/shift_mean": _mean(shift),
            "arm/shift_std": shift.std().item() if shift.numel() > 1 else None,
            "arm/gated_fraction": gate_open.float().mean().item(),
            "arm/sign_flips": float(arm_method.sign_flips(a_before, a_after).item()),
        }


def _mean(values: torch.Tensor) -> float | None:
    """The mean over what has a value, or None: a metric nobody could measure is null, never 0."""
    mean = values.nanmean().item() if values.numel() else math.nan
    return None if math.isnan(mean) else mean


def _pass_at_k(correct: torch.Tensor) -> dict[str, float | None]:
    """Pass@1 and Pass@G of a rollout: the unbiased estimator with the n = G samples that each group holds."""
    group_size = correct.size(1)
    counts = correct.sum(dim=1).cpu().numpy()
    samples = np.full(len(counts), group_size)
    return {f"pass@{k}": float(pass_at_k_per_problem(samples, counts, k).mean()) for k in (1, group_size)}
