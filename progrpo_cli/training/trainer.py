"""TRL's GRPOTrainer with a method in it, by the seams that need none of TRL's code copied.

The advantages, from the rewards to the loss, are this file from top to bottom:

1. ``_calculate_rewards``: the reward functions on every completion, (B_global, functions).
2. ``_generate_and_score_completions``, once a rollout and before TRL shuffles it, so that groups are contiguous: TRL
   weighs the rewards and makes A of each group, (B,) on this process; dynamic sampling puts other groups in the place
   of those that are all right or all wrong; the method's ``advantages`` edits A over all processes, (N, G); ARM makes
   A~ of it where TRL has scored the rollout.
3. ``_compute_loss``, once a micro-batch: TRL makes its forward pass through ``_get_per_token_logps_and_entropies`` and
   reads ``inputs["advantages"]`` only afterwards. In between, ``_between_forward_and_loss``: ARM where every update is
   on-policy, then the method's ``token_advantages``, (B,) or (B, T).
4. ``_with_terms_of_method``: to TRL's clipped surrogate are added the method's own terms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer

from progrpo_cli.methods.base import LossTerms, Method, Rollout
from progrpo_cli.training.arm_step import ArmStep
from progrpo_cli.training.checkpoints import DurableCheckpoints
from progrpo_cli.training.drawn import Drawn
from progrpo_cli.training.finite import StopsWhereNotFinite
from progrpo_cli.training.head import PromptHead, TrainsHead
from progrpo_cli.training.lean_scoring import LeanScoring
from progrpo_cli.training.own_rollouts import DrawsOwnRollouts
from progrpo_cli.training.reference import Reference
from progrpo_cli.training.refill import PromptSource, Refill, Sample
from progrpo_cli.training.rollout_log import LogsRollouts
from progrpo_cli.training.rollout_metrics import pass_at_k
from progrpo_cli.training.shard import Batch, Shard
from progrpo_cli.training.token_means import PoolsTokenMeans


@dataclass
class RolloutState:
    """What is known of a rollout: from the moment its sampling begins until that of the next one begins."""

    rewards: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    """(B_global, functions): of what was sampled last, in the end of what is trained on; the same on every process."""
    arm: ArmStep | None = None
    """While some rows wait for their A~."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Every update made on the rollout reports them."""


@dataclass
class LossCall:
    """One call of ``_compute_loss``: from before TRL's forward pass until the loss is returned."""

    inputs: Batch
    """The micro-batch; a copy, for the next update uses the rollout again."""
    terms: LossTerms | None = None
    """What the method's loss is made of, once the forward pass was made."""


class LabTrainer(
    TrainsHead,
    StopsWhereNotFinite,
    DurableCheckpoints,
    PoolsTokenMeans,
    LogsRollouts,
    DrawsOwnRollouts,
    LeanScoring,
    GRPOTrainer,  # type: ignore[misc]  # TRL is not typed
):
    """GRPO in the shared recipe, changed where ``method`` says so.

    Args:
        method: the method and its options.
        correctness: the name of the reward function that says whether a completion is RIGHT; ARM's gate and Pass@k look
            at it alone, never at a bonus.
        refill_prompts: where a method that samples more (dynamic sampling) takes its prompts from; such a method needs
            it.
        **kwargs: see :class:`trl.GRPOTrainer`.
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
            raise ValueError(f"method {method.name} samples more prompts: it needs refill_prompts")
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
        self._reference = Reference(policy) if method.needs_reference else None
        self._head = PromptHead.of(method, policy, seed=self.args.seed, device=self.accelerator.device)
        self.whole_batches = self._head is not None
        self._drawn = Drawn()
        self._rollout = RolloutState()
        self._loss_call: LossCall | None = None

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids: list[list[int]]
    ) -> torch.Tensor:
        if self.model.training:  # each rollout and each refill comes through here once
            self._drawn.count(self.accelerator, completion_ids)
        self._rollout.rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        return self._rollout.rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        state = self._rollout = RolloutState()
        output: Batch = super()._generate_and_score_completions(inputs)
        shard = self._shard(output)
        if self._refill is not None and self.model.training:
            first = Sample(output, state.rewards, self.logged_rollout())
            refilled = self._refill(first, shard, self.state.global_step, self._sample)
            output, state.rewards = refilled.output, refilled.rewards
            # Pass@k is a score of the policy: of everything that was sampled, also of the groups that are left out.
            state.metrics = pass_at_k(self._correct(refilled.everything)) | refilled.metrics
            self.log_rollout(refilled.logged)
        else:
            state.metrics = pass_at_k(self._correct(state.rewards))
        rollout = self._whole_rollout(output, shard)
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

    def _whole_rollout(self, output: Batch, shard: Shard) -> Rollout:
        """All groups over all processes, as methods and ARM see them."""
        rewards, size = self._rollout.rewards, shard.group_size
        scorable = ~torch.isnan(rewards).all(dim=1)
        weighted = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1)
        logps = self._completion_logps(output) if self._method.needs_logps else None
        return Rollout(
            correct=self._correct(rewards),
            scorable=scorable.view(-1, size),
            rewards=weighted.masked_fill(~scorable, torch.nan).view(-1, size),
            advantages=shard.gather(output["advantages"]).view(-1, size),
            logps=None if logps is None else shard.gather(logps).view(-1, size),
        )

    def _correct(self, rewards: torch.Tensor) -> torch.Tensor:
        """(N, G) bool; NaN, a completion that nobody could score, is not right."""
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
        loss = self._with_terms_of_method(loss, call.terms, inputs)
        self._log_of_method(call.terms)
        return loss

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        result: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
        result = super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, **kwargs)
        if self._loss_call is not None:
            self._loss_call.terms = self._between_forward_and_loss(self._loss_call.inputs, result[0])
        return result

    def _between_forward_and_loss(self, inputs: Batch, logps: torch.Tensor) -> LossTerms:
        """Make what TRL's loss finds in ``inputs["advantages"]`` when it looks there next."""
        if self._rollout.arm is not None:
            # On-policy: the probabilities of the policy that sampled are those of this very pass.
            self._rollout.arm.apply(inputs, logps.detach())
        old = inputs.get("old_per_token_logps")
        terms = LossTerms(
            logps=logps,
            old_logps=logps.detach() if old is None else old,
            mask=inputs["completion_mask"],
            advantages=inputs["advantages"],
            clip=(1 - self.epsilon_low, 1 + self.epsilon_high),
            reference_logps=inputs.get("reference_logps"),
            log_partition=None if self._head is None else self._head.of_prompts(inputs),
        )
        inputs["advantages"] = self._method.token_advantages(terms)
        return terms

    def _with_terms_of_method(self, loss: torch.Tensor, terms: LossTerms, inputs: Batch) -> torch.Tensor:
        accumulated = self.current_gradient_accumulation_steps if self.model.training else 1
        # (B, 1), with vLLM: the policy's probability over the sampler's. TRL has weighed its surrogate by it.
        of_sampler = inputs.get("importance_sampling_ratio")
        of_tokens = self._method.token_loss(terms)
        if of_tokens is not None:
            of_tokens = of_tokens if of_sampler is None else of_tokens * of_sampler
            # Normalised as the surrogate: over the tokens of the whole batch on all processes.
            tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
            tokens = tokens * accumulated / self.args.steps_per_generation
            loss = loss + (of_tokens * terms.mask).sum() / tokens
        of_sequences = self._method.sequence_loss(terms)
        if of_sequences is not None:
            of_sequences = of_sequences if of_sampler is None else of_sequences * of_sampler.squeeze(1)
            loss = loss + of_sequences.mean() / accumulated
        return loss

    # What the steps above ask for.

    @property
    def rollout_metrics(self) -> dict[str, float | None]:
        """Of the rollout that the current update is made on: an update that reuses a rollout reports them again.

        With them what has been drawn until now in all.
        """
        return self._rollout.metrics | self._drawn.totals

    @property
    def _group_size(self) -> int:
        return int(self.num_generations if self.model.training else self.num_generations_eval)

    def _shard(self, output: Batch) -> Shard:
        """This process's part of a rollout."""
        return Shard.of(
            output,
            self.accelerator.process_index,
            group_size=self._group_size,
            world=self.accelerator.num_processes,
            gather=self.accelerator.gather,
            score=lambda ids, mask, kept: self.score(self.model, ids, mask, kept),
        )

    def _sample(self, inputs: list[dict[str, Any]]) -> Sample:
        return Sample(super()._generate_and_score_completions(inputs), self._rollout.rewards, self.logged_rollout())

    def _finish_arm(self) -> None:
        """Take ARM's metrics and columns once every row has its A~. Collective."""
        assert self._rollout.arm is not None
        metrics, columns = self._rollout.arm.finish()
        self._rollout.arm = None
        self._rollout.metrics |= metrics
        self.log_rollout({f"extra/{name}": values for name, values in columns.items()})

    def _completion_logps(self, output: Batch) -> torch.Tensor:
        """(B,) log pi_old(o|q); where every update is on-policy TRL scores no rollout, and the pass is made here."""
        scored = output.get("old_per_token_logps")
        logps = self.score_completions(self.model, output) if scored is None else scored
        total: torch.Tensor = logps.masked_fill(~output["completion_mask"].bool(), 0.0).sum(dim=1)
        return total

    def _log_of_method(self, terms: LossTerms) -> None:
        """Log the method's scalars of a micro-batch, the mean over processes. Collective."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in self._method.metrics(terms).items():
            mean = self.accelerator.gather(value.detach().float().reshape(1)).mean().item()
            if name in metrics:  # TRL's own, which it has just taken from a surrogate that is not used
                metrics[name][-1] = mean
                self._token_means.leave_out(name)
            else:
                metrics[f"{self._method.name}/{name}"].append(mean)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card: the run directory's manifest says more, and TRL's names a hub repository that does not exist."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            self._drawn.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._drawn.load(Path(checkpoint))
