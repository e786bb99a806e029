"""Log-probabilities of a rollout with less arithmetic on padding and repeated prompts.

TRL scores each completion after a copy of its prompt and pads all rows to the longest. On the lab that is three and a
half positions per completion token. Here rows of similar length are scored together, and a small model reads each
prompt once for all its completions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache
from trl.models.utils import disable_gradient_checkpointing

from progrpo_cli.sampling.decoding import has_plain_cache, is_small

PARTS = 4
"""Parts that a batch is scored in, at most; each runs the model's Python code once more."""
ROWS_IN_A_PART = 32
"""Rows of a part, at least: with fewer the Python overhead exceeds the saving."""
WORTH_IT = 0.9
"""A batch is split if the parts together have less than this share of its positions."""

if TYPE_CHECKING:
    from trl import GRPOTrainer as _Base
else:
    _Base = object

Scores = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


def parts_by_length(ends: torch.Tensor, width: int) -> list[torch.Tensor]:
    """Split the rows of a batch into parts of similar length, or return one part if splitting saves little.

    Args:
        ends: (B,) positions of each row without the padding on the right.
        width: positions of a row with its padding.

    Returns:
        Row numbers of each part, the longest row of the part first.
    """
    by_length = ends.argsort(descending=True, stable=True)
    count = min(PARTS, len(ends) // ROWS_IN_A_PART)
    if count < 2:
        return [by_length]
    parts = list(by_length.chunk(count))
    positions = sum(len(part) * int(ends[part[0]]) for part in parts)
    return parts if positions < WORTH_IT * len(ends) * width else [by_length]


class LeanScoringMixin(_Base):  # type: ignore[misc]  # TRL is not typed
    """Mixin for TRL's GRPOTrainer: the same scores, up to rounding, from fewer positions.

    Only padding on the right is removed, so position ids do not change. With several processes TRL's own pass is used,
    because DDP's wrapper expects one forward pass per loss.
    """

    whole_batches: bool = False
    """Score each batch in one forward pass, because something reads its hidden states."""

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, **kwargs: Any
    ) -> Scores:
        text_only = all(
            name in ("batch_size", "compute_entropy") or value is None or value is False
            for name, value in kwargs.items()
        )
        if not text_only or self.whole_batches or self.accelerator.num_processes > 1:
            return self._by_trl(model, input_ids, attention_mask, logits_to_keep, **kwargs)
        width = input_ids.size(1)
        ends = width - attention_mask.flip(1).argmax(dim=1)
        ends = ends.clamp(min=width - logits_to_keep + 1)  # score at least one position
        parts = parts_by_length(ends, width)
        prompts = self._read_prompts(model, input_ids, attention_mask, width - logits_to_keep)
        if len(parts) == 1 and prompts is None:
            return self._by_trl(model, input_ids, attention_mask, logits_to_keep, **kwargs)
        scored = []
        for rows in parts:
            end = int(ends[rows[0]])
            ids, mask, count = input_ids[rows, :end], attention_mask[rows, :end], logits_to_keep - (width - end)
            if prompts is None:
                scored.append(self._by_trl(model, ids, mask, count, **kwargs))
            else:
                scored.append(prompts.score(model, rows, ids, mask, count, **kwargs))
        order = torch.cat(parts).argsort()
        logps, entropies = (
            None if values[0] is None else torch.cat([_pad_right(value, logits_to_keep) for value in values])[order]
            for values in list(zip(*scored, strict=True))[:2]
        )
        assert logps is not None
        return logps, entropies, None

    def score_completions(self, model: Any, output: dict[str, Any]) -> torch.Tensor:
        """Log-probabilities (B, C) of a rollout's completions under ``model``, without gradient."""
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        return self.score(model, ids, mask, output["completion_ids"].size(1))

    def score(self, model: Any, ids: torch.Tensor, mask: torch.Tensor, count: int) -> torch.Tensor:
        """Log-probabilities (B, K) of the last ``count`` tokens of ``ids`` (B, T) under ``model``, without gradient."""
        checkpointing = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(self.model, checkpointing):
            logps, _, _ = self._get_per_token_logps_and_entropies(
                model, ids, mask, count, batch_size=self.args.per_device_train_batch_size
            )
        result: torch.Tensor = logps
        return result

    def _by_trl(self, *args: Any, **kwargs: Any) -> Scores:
        scores: Scores = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return scores

    def _read_prompts(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, prompt: int
    ) -> SharedPrompts | None:
        """Read each distinct prompt once, or return None if that saves nothing or was not tried for this model."""
        plain = self.accelerator.unwrap_model(model)
        if prompt < 2 or self.args.gradient_checkpointing or not is_small(plain) or not has_plain_cache(plain):
            return None
        padded = input_ids[:, :prompt].masked_fill(attention_mask[:, :prompt] == 0, -1)
        unique, rows = torch.unique(padded, dim=0, return_inverse=True)
        if len(unique) * 2 > len(rows):
            return None
        return SharedPrompts.read(model, unique[:, :-1], rows)


class SharedPrompts:
    """Keys and values of the distinct prompts of a batch without their last tokens, with gradient if it is enabled."""

    def __init__(self, cache: DynamicCache, rows: torch.Tensor) -> None:
        self._cache, self._rows = cache, rows

    @classmethod
    def read(cls, model: Any, prompts: torch.Tensor, rows: torch.Tensor) -> SharedPrompts:
        """Run the model over the prompts.

        Args:
            model: the model that scores.
            prompts: (U, P) token ids, -1 on padding.
            rows: (B,) index of each row's prompt.
        """
        mask = (prompts >= 0).long()
        cache = DynamicCache(config=model.config)
        model(
            input_ids=prompts.clamp(min=0), attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return cls(cache, rows)

    def score(
        self,
        model: Any,
        rows: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        count: int,
        *,
        compute_entropy: bool = False,
        **_: Any,
    ) -> Scores:
        """Log-probabilities and entropies (R, count) of the completion tokens of some rows, by TRL's fused head.

        Args:
            model: the model that scores.
            rows: (R,) numbers of the rows in the batch.
            input_ids: (R, W) whole rows, prompts included.
            attention_mask: (R, W).
            count: tokens after the prompt, all of which are scored.
            compute_entropy: return the entropies; otherwise they are None.
        """
        cache = DynamicCache(config=model.config)
        prompt_index = self._rows[rows]
        for index, layer in enumerate(self._cache.layers):
            cache.update(layer.keys[prompt_index], layer.values[prompt_index], index)
        ids = input_ids[:, -count - 1 :]
        labels = ids.masked_fill(attention_mask[:, -count - 1 :] == 0, -100)
        labels[:, 0] = -100
        outputs = model(
            input_ids=ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=True,
            labels=labels,
            fused_lm_head=True,
        )
        return outputs.log_probs[:, -count:], outputs.entropy[:, -count:] if compute_entropy else None, None


def _pad_right(values: torch.Tensor, width: int) -> torch.Tensor:
    """Put zeros in place of the padding that was removed; all uses mask them."""
    return torch.nn.functional.pad(values, (0, width - values.size(1)))
