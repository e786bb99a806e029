"""Samples rollouts with our own decoding loop instead of ``generate``: the same distribution in less time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType
from trl.models.utils import unwrap_model_for_generation

from progrpo_cli.sampling.decoders import uses_own_loop
from progrpo_cli.sampling.decoding import Prompts, draw, draw_in_order, evaluation_mode, has_plain_cache, is_small

ROWS_AT_ONCE = 128
"""Completions that one core draws at once from a small model; more are not faster. It is the same on any machine."""
WHOLE_MODELS = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)

if TYPE_CHECKING:
    from trl import GRPOTrainer as _Base
else:
    _Base = object


class OwnRolloutsMixin(_Base):  # type: ignore[misc]  # TRL is not typed
    """Mixin for TRL's GRPOTrainer: samples with :mod:`progrpo_cli.sampling.decoding` instead of ``generate``.

    ``generate`` reads a prompt once per completion and keeps computing rows that have ended. TRL's own way is still
    used with vLLM, with sharded weights, and with models whose cache the loop does not support.
    """

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: dict[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        model = self.accelerator.unwrap_model(self.model_wrapped)
        by_trl = (
            self.use_vllm
            or self.use_transformers_continuous_batching
            or images is not None
            or multimodal_fields
            or self.accelerator.distributed_type not in WHOLE_MODELS
            or not (has_plain_cache(model) and uses_own_loop(model))
        )
        if by_trl:
            generated: tuple[list[list[int]], Any] = super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, *args, **kwargs
            )
            return generated
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as unwrapped,
            evaluation_mode(unwrapped),
        ):
            return self._draw_completions(unwrapped, prompt_ids), None

    def _draw_completions(self, model: Any, prompt_ids: list[list[int]]) -> list[list[int]]:
        """Draw one completion for each prompt, with random numbers from the process's state, which checkpoints hold."""
        uniforms = torch.rand((self.max_completion_length, len(prompt_ids)))
        size = ROWS_AT_ONCE if is_small(model) else len(prompt_ids)
        draws = [
            partial(
                draw,
                model,
                self._unique_prompts(prompt_ids[start : start + size]),
                uniforms[:, start : start + size],
                ends=self.eos_token_ids,
                distribution=self._log_softmax,
            )
            for start in range(0, len(prompt_ids), size)
        ]
        return [tokens for completions in draw_in_order(model, draws) for tokens in completions.tokens]

    def _unique_prompts(self, prompt_ids: list[list[int]]) -> Prompts:
        """The distinct prompts, padded on the left."""
        unique = {ids: index for index, ids in enumerate(dict.fromkeys(map(tuple, prompt_ids)))}
        width = max(map(len, unique))
        pad = self._tokenizer.pad_token_id
        device = self.accelerator.device
        return Prompts(
            ids=torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in unique], device=device),
            mask=torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in unique], device=device),
            rows=torch.tensor([unique[tuple(ids)] for ids in prompt_ids], device=device),
        )

    def _log_softmax(self, logits: torch.Tensor) -> torch.Tensor:
        logps: torch.Tensor = (logits.float() / self.temperature).log_softmax(dim=-1)
        return logps
