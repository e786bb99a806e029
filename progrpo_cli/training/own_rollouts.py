"""Rollouts drawn by our own decoding loop, in the place of ``generate``: the same distribution in less time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType
from trl.models.utils import unwrap_model_for_generation

from progrpo_cli.sampling.decoding import Prompts, draw, drawn_in_order, has_plain_cache, in_evaluation, is_small
from progrpo_cli.sampling.ways import draws_by_loop

ROWS_AT_ONCE = 128
"""Completions that a core draws at once from a small model: more are no faster. The number depends on no machine."""
WHOLE_MODELS = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)

if TYPE_CHECKING:
    from trl import GRPOTrainer as _Base
else:
    _Base = object


class DrawsOwnRollouts(_Base):  # type: ignore[misc]  # TRL is not typed
    """For TRL's GRPOTrainer: what ``generate`` would sample is sampled by :mod:`progrpo_cli.sampling.decoding`.

    ``generate`` reads a prompt once a completion and keeps rows that have ended. It stays in charge where the loop does
    not know the model's cache, where weights are in shards, and where vLLM samples.
    """

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: dict[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[list[list[int]], Any]:
        model = self.accelerator.unwrap_model(self.model_wrapped)
        by_generate = (
            self.use_vllm
            or self.use_transformers_continuous_batching
            or images is not None
            or multimodal_fields
            or self.accelerator.distributed_type not in WHOLE_MODELS
            or not (has_plain_cache(model) and draws_by_loop(model))
        )
        if by_generate:
            drawn: tuple[list[list[int]], Any] = super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, *args, **kwargs
            )
            return drawn
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as unwrapped,
            in_evaluation(unwrapped),
        ):
            return self._draw_completions(unwrapped, prompt_ids), None

    def _draw_completions(self, model: Any, prompt_ids: list[list[int]]) -> list[list[int]]:
        """A completion of each prompt. All chances come from the process's random state, which checkpoints hold."""
        chances = torch.rand((self.max_completion_length, len(prompt_ids)))
        size = ROWS_AT_ONCE if is_small(model) else len(prompt_ids)
        draws = [
            partial(
                draw,
                model,
                self._different_prompts(prompt_ids[start : start + size]),
                chances[:, start : start + size],
                ends=self.eos_token_ids,
                distribution=self._log_softmax,
            )
            for start in range(0, len(prompt_ids), size)
        ]
        return [tokens for part in drawn_in_order(model, draws) for tokens in part.tokens]

    def _different_prompts(self, prompt_ids: list[list[int]]) -> Prompts:
        """Each different prompt once, padded on the left."""
        unique = {ids: place for place, ids in enumerate(dict.fromkeys(map(tuple, prompt_ids)))}
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
