"""TRL's GRPOTrainer with a method plugged in, by overriding methods of TRL's without copying its code.

Read from top to bottom, this file follows the advantages from the rewards to the loss:

1. ``_calculate_rewards`` applies the reward functions to each completion: (B_global, functions).
2. ``_generate_and_score_completions`` runs once per rollout, before TRL shuffles it, so groups are contiguous. TRL
   weights the rewards and computes A for each group, (B,) on this process. Dynamic sampling replaces groups that are
   all right or all wrong. The method's ``advantages`` edits A over all processes, (N, G). If TRL has scored the
   rollout, ARM turns A into A~ here.
3. ``_compute_loss`` runs once per micro-batch. TRL makes its forward pass in ``_get_per_token_logps_and_entropies`` and
   reads ``inputs["advantages"]`` only after it. ``_make_loss_terms`` runs in between: it applies ARM if every update is
   on-policy, then the method's ``token_advantages``, (B,) or (B, T).
4. ``_add_method_losses`` adds the method's own loss terms to TRL's clipped surrogate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer

from progrpo_cli.methods.base import LossTerms, Method, Rollout
from progrpo_cli.training.arm_step import ArmStep
from progrpo_cli.training.checkpoints import DurableCheckpointMixin
from progrpo_cli.training.finite import FiniteGuardMixin
from progrpo_cli.training.head import PromptHead, PromptHeadMixin
from progrpo_cli.training.lean_scoring import LeanScoringMixin
from progrpo_cli.training.own_rollouts import OwnRolloutsMixin
from progrpo_cli.training.reference import ReferencePolicy
from progrpo_cli.training.refill import PromptSource, Refill, SampledRollout
from progrpo_cli.training.rollout_log import RolloutLogMixin
from progrpo_cli.training.rollout_metrics import pass_at_k
from progrpo_cli.training.sample_totals import SampleTotals
from progrpo_cli.training.shard import Batch, Shard
from progrpo_cli.training.token_means import PooledTokenMeansMixin


@dataclass
class RolloutState:
    """State of a rollout. It lives from the start of its sampling until the start of the next one's."""

    rewards: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """Rewards of the last sampled rollout and, after refills, of the one to train on: (B_global, functions)."""
    arm: ArmStep | None = None
    """Present until all rows have been re-weighted."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Logged on each update made on the rollout."""


@dataclass
class LossCall:
    """State of one call of ``_compute_loss``. It lives from before TRL's forward pass until the loss is returned."""

    inputs: Batch
    """A copy of the micro-batch, because the next update uses the rollout again."""
    terms: LossTerms | None = None
    """Inputs of the method's loss, set after the forward pass."""


class LabTrainer(
    PromptHeadMixin,
    FiniteGuardMixin,
    DurableCheckpointMixin,
    PooledTokenMeansMixin,
    RolloutLogMixin,
    OwnRolloutsMixin,
    LeanScoringMixin,
    GRPOTrainer,  # type: ignore[misc]  # TRL is not typed
):
    """The shared recipe (GRPO), changed as ``method`` specifies.

    Args:
        method: the method and its options.
        correctness: name of the reward function that decides whether a completion is right. ARM's gate and Pass@k use
            only this function, never a bonus.
        refill_prompts: source of further prompts; required by a method with dynamic sampling.
        **kwargs: arguments of :class:`trl.GRPOTrainer`.
    """

    def __init__(
        self,
        *,
        method: Method,
        correctness: str = "correctness",
        refill_prompts: PromptSource | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy, limit = self.accelerator.unwrap_model(self.model), method.refills()
        if limit and refill_prompts is None:
            raise ValueError(f"method {method.name} uses dynamic sampling and needs refill_prompts")
        self._method = method
        self._correctness = self.reward_func_names.index(correctness)
        self._refill = (
            Refill(
                method.name,
                limit,
                refill_prompts,
                correctness=self._correctness,
                pad_token_id=self._tokenizer.pad_token_id,
            )
            if limit and refill_prompts
            else None
        )
        self._reference = ReferencePolicy(policy) if method.needs_reference else None
        self._head = PromptHead.build(method, policy, seed=self.args.seed, device=self.accelerator.device)
        self.whole_batches = self._head is not None
        self._sample_totals = SampleTotals()
        self._rollout = RolloutState()
        self._loss_call: LossCall | None = None

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids: list[list[int]]
    ) -> torch.Tensor:
        if self.model.training:  # called once per rollout and once per refill
            self._sample_totals.count(self.accelerator, completion_ids)
        self._rollout.rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        return self._rollout.rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        state = self._rollout = RolloutState()
        output: Batch = super()._generate_and_score_completions(inputs)
        shard = self._make_shard(output)
        if self._refill is not None and self.model.training:
            first = SampledRollout(output, state.rewards, self.logged_rollout())
            refilled = self._refill(first, shard, self.state.global_step, self._sample_refill)
            output, state.rewards = refilled.output, refilled.rewards
            # Pass@k scores the policy, so it covers all samples, those of dropped groups included.
            state.metrics = pass_at_k(self._is_correct(refilled.sampled_rewards)) | refilled.metrics
            self.log_rollout(refilled.logged)
        else:
            state.metrics = pass_at_k(self._is_correct(state.rewards))
        rollout = self._gather_rollout(output, shard)
        advantages = self._method.advantages(rollout)
        if advantages is not rollout.advantages:
            self.log_rollout({"advantages": advantages.flatten().tolist()})
            output["advantages"] = advantages.flatten()[shard.rows]
        if self._reference is not None:
            output["reference_logps"] = self._reference.logps(output, self.score_completions)
        if self._method.arm is not None:
            state.arm = ArmStep(self._method.arm, output, rollout, shard)
            if "old_per_token_logps" in output:
                state.arm.apply(output, output["old_per_token_logps"])
                self._finish_arm()
        return output

    def _gather_rollout(self, output: Batch, shard: Shard) -> Rollout:
        """Gather all groups of all processes, in the form that methods and ARM take."""
        rewards, size = self._rollout.rewards, shard.group_size
        scorable = ~torch.isnan(rewards).all(dim=1)
        weighted = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1)
        logps = self._completion_logps(output) if self._method.needs_logps else None
        return Rollout(
            correct=self._is_correct(rewards),
            scorable=scorable.view(-1, size),
            rewards=weighted.masked_fill(~scorable, torch.nan).view(-1, size),
            advantages=shard.gather(output["advantages"]).view(-1, size),
            logps=None if logps is None else shard.gather(logps).view(-1, size),
        )

    def _is_correct(self, rewards: torch.Tensor) -> torch.Tensor:
        """Whether each completion is right, (N, G) bool. A completion without a score (NaN) is not."""
        return (rewards[:, self._correctness] > 0).view(-1, self._group_size)

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        call = self._loss_call = LossCall(dict(inputs))
        try:
            loss: torch.Tensor = super()._compute_loss(model, call.inputs)
        finally:
            self._loss_call = None
        assert call.terms is not None
        if self.model.training:
            self._token_means.count(call.terms.mask)
        if self._rollout.arm is not None and self._rollout.arm.complete:
            self._finish_arm()
        loss = self._add_method_losses(loss, call.terms, inputs)
        self._log_method_metrics(call.terms)
        return loss

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        result: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
        result = super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, **kwargs)
        if self._loss_call is not None:
            self._loss_call.terms = self._make_loss_terms(self._loss_call.inputs, result[0])
        return result

    def _make_loss_terms(self, inputs: Batch, logps: torch.Tensor) -> LossTerms:
        """Collect the inputs of the method's loss, and put the final advantages where TRL's loss reads them next."""
        if self._rollout.arm is not None:
            # On-policy: this forward pass is made with the policy that sampled.
            self._rollout.arm.apply(inputs, logps.detach())
        old = inputs.get("old_per_token_logps")
        terms = LossTerms(
            logps=logps,
            old_logps=logps.detach() if old is None else old,
            mask=inputs["completion_mask"],
            advantages=inputs["advantages"],
            clip=(1 - self.epsilon_low, 1 + self.epsilon_high),
            reference_logps=inputs.get("reference_logps"),
            log_partition=None if self._head is None else self._head.predict(inputs),
        )
        inputs["advantages"] = self._method.token_advantages(terms)
        return terms

    def _add_method_losses(self, loss: torch.Tensor, terms: LossTerms, inputs: Batch) -> torch.Tensor:
        micro_batches = self.current_gradient_accumulation_steps if self.model.training else 1
        # With vLLM, (B, 1): the policy's probability over the sampler's. TRL has weighted its surrogate by it.
        sampler_ratio = inputs.get("importance_sampling_ratio")
        token_loss = self._method.token_loss(terms)
        if token_loss is not None:
            token_loss = token_loss if sampler_ratio is None else token_loss * sampler_ratio
            # Normalised like the surrogate, over the tokens of the whole batch on all processes.
            tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
            tokens = tokens * micro_batches / self.args.steps_per_generation
            loss = loss + (token_loss * terms.mask).sum() / tokens
        sequence_loss = self._method.sequence_loss(terms)
        if sequence_loss is not None:
            sequence_loss = sequence_loss if sampler_ratio is None else sequence_loss * sampler_ratio.squeeze(1)
            loss = loss + sequence_loss.mean() / micro_batches
        return loss

    # Helpers of the steps above, and checkpoints.

    @property
    def rollout_metrics(self) -> dict[str, float | None]:
        """Metrics of the rollout that the current update is made on, and the totals of all samples drawn so far.

        Later updates on the same rollout report the same metrics.
        """
        return self._rollout.metrics | self._sample_totals.totals

    @property
    def _group_size(self) -> int:
        return int(self.num_generations if self.model.training else self.num_generations_eval)

    def _make_shard(self, output: Batch) -> Shard:
        """This process's part of a rollout."""
        return Shard.from_batch(
            output,
            self.accelerator.process_index,
            group_size=self._group_size,
            world=self.accelerator.num_processes,
            gather=self.accelerator.gather,
            score=lambda ids, mask, count: self.score(self.model, ids, mask, count),
        )

    def _sample_refill(self, inputs: list[dict[str, Any]]) -> SampledRollout:
        return SampledRollout(
            super()._generate_and_score_completions(inputs), self._rollout.rewards, self.logged_rollout()
        )

    def _finish_arm(self) -> None:
        """Add ARM's metrics and columns, once all rows have been re-weighted. Collective."""
        assert self._rollout.arm is not None
        metrics, columns = self._rollout.arm.finish()
        self._rollout.arm = None
        self._rollout.metrics |= metrics
        self.log_rollout({f"extra/{name}": values for name, values in columns.items()})

    def _completion_logps(self, output: Batch) -> torch.Tensor:
        """log pi_old(o|q), (B,). If every update is on-policy, TRL has not scored the rollout and it is scored here."""
        old_logps = output.get("old_per_token_logps")
        logps = self.score_completions(self.model, output) if old_logps is None else old_logps
        total: torch.Tensor = logps.masked_fill(~output["completion_mask"].bool(), 0.0).sum(dim=1)
        return total

    def _log_method_metrics(self, terms: LossTerms) -> None:
        """Log the method's metrics of a micro-batch, averaged over processes. Collective."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in self._method.metrics(terms).items():
            mean = self.accelerator.gather(value.detach().float().reshape(1)).mean().item()
            if name in metrics:  # replaces TRL's value, which is of a surrogate that the method does not use
                metrics[name][-1] = mean
                self._token_means.exclude(name)
            else:
                metrics[f"{self._method.name}/{name}"].append(mean)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: TRL's card would name a hub repository that does not exist; the manifest has more information."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            self._sample_totals.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._sample_totals.load(Path(checkpoint))
