"""TRL's GRPOTrainer with a method in it, by the seams that need none of TRL's code copied.

``_generate_and_score_completions`` runs once a rollout, before TRL shuffles: groups are contiguous in gathered order.
We call TRL's and edit ``output["advantages"]``. ``_compute_loss`` reads the advantages only after its forward pass,
which it makes through ``_get_per_token_logps_and_entropies``: there a method does what needs the current policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from trl import GRPOTrainer

from progrpo_cli.methods.base import LossTerms, Method, Rollout
from progrpo_cli.training.arm_step import ArmStep
from progrpo_cli.training.checkpoints import DurableCheckpoints
from progrpo_cli.training.drawn import Drawn
from progrpo_cli.training.finite import StopsWhereNotFinite
from progrpo_cli.training.head import PromptHead
from progrpo_cli.training.lean_scoring import LeanScoring
from progrpo_cli.training.own_rollouts import DrawsOwnRollouts
from progrpo_cli.training.reference import Reference
from progrpo_cli.training.refill import PromptSource, Refill
from progrpo_cli.training.rollout_metrics import pass_at_k

Batch = dict[str, Any]

CLIP_FRACTIONS = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")


class LabTrainer(
    StopsWhereNotFinite,
    DurableCheckpoints,
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
        self._method = method
        self.correctness_column = self.reward_func_names.index(correctness)
        """Of the reward functions, the one that says what is right."""
        if method.refills() and refill_prompts is None:
            raise ValueError(f"method {method.name} samples more prompts: it needs refill_prompts")
        self._refill = Refill(method.refills(), refill_prompts) if method.refills() and refill_prompts else None
        self._reference = Reference(self) if method.needs_reference else None
        self._head = PromptHead.of(method, self)
        self.whole_batches = self._head is not None
        self._arm: ArmStep | None = None
        self._drawn = Drawn()
        self._rewards = torch.empty(0)
        self._loss_inputs: Batch | None = None
        self._loss_terms: LossTerms | None = None
        self._of_the_rollout: dict[str, float | None] = {}
        self._tokens: list[torch.Tensor] = []
        self._of_completions: set[str] = set()

    def other_parameters(self) -> Iterable[torch.nn.Parameter]:
        """The parameters of the method's head."""
        return () if self._head is None else self._head.module.parameters()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card: the run directory's manifest says more, and TRL's names a hub repository that does not exist."""

    @property
    def rollout_metrics(self) -> dict[str, float | None]:
        """Of the rollout that the current update is made on: an update that reuses a rollout reports them again.

        With them what has been drawn until now in all. A collective operation: every process asks at the same moment.
        """
        if self._arm is not None and self._arm.complete:
            self._of_the_rollout |= self._arm.finish()
            self._arm = None
        return self._of_the_rollout | self._drawn.totals

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids: list[list[int]]
    ) -> torch.Tensor:
        if self.model.training:  # each rollout and each refill comes through here once
            self._drawn.count(self.accelerator, completion_ids)
        # (B_global, functions), the same on every rank
        self._rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids)
        return self._rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        output: Batch = super()._generate_and_score_completions(inputs)
        if self._refill is not None and self.model.training:
            refilled = self._refill(self, output, super()._generate_and_score_completions)
            output, self._rewards = refilled.output, refilled.rewards
            # A score of the policy: of everything that was sampled, also of the groups that are left out.
            self._of_the_rollout = pass_at_k(self._correct(refilled.everything)) | refilled.metrics
        else:
            self._of_the_rollout = pass_at_k(self._correct(self._rewards))
        rollout = self._rollout(output)
        advantages = self._method.advantages(rollout)
        if advantages is not rollout.advantages:
            self._logs["advantages"].extend(advantages.flatten().tolist())  # in the place of TRL's
            output["advantages"] = advantages.flatten()[self._here(output)]
        if self._reference is not None:
            output["reference_logps"] = self._reference.logps(self, output)
        if self._method.arm is not None:
            self._arm = ArmStep(self, self._method.arm, output, rollout)
            if "old_per_token_logps" in output:
                self._arm.apply(output, output["old_per_token_logps"])
        return output

    def _here(self, output: Batch) -> slice:
        """The place of this process's rows among those of all processes."""
        rows = len(output["prompt_ids"])
        start = self.accelerator.process_index * rows
        return slice(start, start + rows)

    def _correct(self, rewards: torch.Tensor) -> torch.Tensor:
        """(N, G) bool; NaN, a completion that nobody could score, is not right."""
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        return (rewards[:, self.correctness_column] > 0).view(-1, group_size)

    def _rollout(self, output: Batch) -> Rollout:
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        scorable = ~torch.isnan(self._rewards).all(dim=1)
        rewards = (self._rewards * self.reward_weights.to(self._rewards.device)).nansum(dim=1)
        logps = self._completion_logps(output) if self._method.needs_logps else None
        return Rollout(
            correct=self._correct(self._rewards),
            scorable=scorable.view(-1, group_size),
            rewards=rewards.masked_fill(~scorable, torch.nan).view(-1, group_size),
            advantages=self.accelerator.gather(output["advantages"]).view(-1, group_size),
            logps=None if logps is None else self.accelerator.gather(logps).view(-1, group_size),
        )

    def _completion_logps(self, output: Batch) -> torch.Tensor:
        """(B,) log pi_old(o|q); where every update is on-policy TRL scores no rollout, and the pass is made here."""
        scored = "old_per_token_logps" in output
        logps = output["old_per_token_logps"] if scored else self.score(self.model, output)
        masked = logps.masked_fill(~output["completion_mask"].bool(), 0.0)
        total: torch.Tensor = masked.sum(dim=1)
        return total

    def score(self, model: Any, output: Batch) -> torch.Tensor:
        """(B, C) log-probabilities of a rollout's completions under ``model``, no gradient."""
        with torch.no_grad():
            logps, _, _ = self._get_per_token_logps_and_entropies(
                model,
                torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
                torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
                output["completion_ids"].size(1),
                batch_size=self.args.per_device_train_batch_size,
            )
        result: torch.Tensor = logps
        return result

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        self._loss_inputs = dict(inputs)  # a copy: the rollout is used again by the next update
        try:
            loss: torch.Tensor = super()._compute_loss(model, self._loss_inputs)
            assert self._loss_terms is not None
            if self.model.training:
                self._tokens.append(self._loss_terms.mask.sum())
            return self._with_the_methods_terms(loss, self._loss_terms, inputs)
        finally:
            self._loss_inputs = self._loss_terms = None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        result: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
        result = super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, **kwargs)
        if self._loss_inputs is not None:
            self._between_forward_and_loss(self._loss_inputs, result[0])
        return result

    def _between_forward_and_loss(self, inputs: Batch, logps: torch.Tensor) -> None:
        """What TRL's loss finds in ``inputs["advantages"]`` when it looks there next."""
        if self._arm is not None and not self._arm.complete:
            # On-policy: the probabilities of the policy that sampled are those of this very pass.
            self._arm.apply(inputs, logps.detach())
        old = inputs.get("old_per_token_logps")
        self._loss_terms = LossTerms(
            logps=logps,
            old_logps=logps.detach() if old is None else old,
            mask=inputs["completion_mask"],
            advantages=inputs["advantages"],
            clip=(1 - self.epsilon_low, 1 + self.epsilon_high),
            reference_logps=inputs.get("reference_logps"),
            log_partition=None if self._head is None else self._head.of_prompts(inputs),
        )
        inputs["advantages"] = self._method.token_advantages(self._loss_terms)

    def _with_the_methods_terms(self, loss: torch.Tensor, terms: LossTerms, inputs: Batch) -> torch.Tensor:
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
        mode = "train" if self.model.training else "eval"
        for name, value in self._method.metrics(terms).items():
            mean = self.accelerator.gather(value.detach().float().reshape(1)).mean().item()
            if name in self._metrics[mode]:  # TRL's own, which it has just taken from a surrogate that is not used
                self._metrics[mode][name][-1] = mean
                self._of_completions.add(name)
            else:
                self._metrics[mode][f"{self._method.name}/{name}"].append(mean)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's; what is a mean over tokens is pooled over those of all micro-batches, which TRL weighs alike."""
        if self._tokens:
            tokens = self.accelerator.reduce(torch.stack(self._tokens)).tolist()  # sums over the processes
            self._tokens.clear()
            per_sequence = CLIP_FRACTIONS if self.importance_sampling_level == "sequence" else ()
            for name in {"entropy", "kl", *CLIP_FRACTIONS} - {*per_sequence, *self._of_completions}:
                if means := self._metrics["train"].get(name):
                    total = sum(mean * count for mean, count in zip(means, tokens, strict=True))
                    self._metrics["train"][name] = [total / sum(tokens)]
        super().log(logs, start_time)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The policy's groups, and one of its own for the method's head."""
        new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        if new and self._head is not None:
            self._head.join(optimizer)
        return optimizer

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """TRL's, and the head's gradients averaged over the processes, which DDP does not know of."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if self._head is not None and self.accelerator.sync_gradients:
            self._head.average_gradients(self.accelerator)
        return loss

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            self._drawn.save(Path(output_dir))
        if self._head is not None and self.args.should_save:
            safetensors.torch.save_file(self._head.module.state_dict(), Path(output_dir) / "head.safetensors")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._drawn.load(Path(checkpoint))
        if self._head is not None and checkpoint is not None:
            self._head.module.load_state_dict(safetensors.torch.load_file(Path(checkpoint) / "head.safetensors"))
