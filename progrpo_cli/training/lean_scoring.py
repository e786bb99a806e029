"""Log-probabilities of a rollout without arithmetic that is done twice or on padding.

TRL scores each completion behind a copy of its prompt, and pads all rows to the longest. On the lab that is three and a
half positions for each token of a completion. Here completions are scored beside others of about their length, and a
small model reads each prompt once for all its completions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache
from trl.models.utils import disable_gradient_checkpointing

from progrpo_cli.sampling.decoding import has_plain_cache, is_small

PARTS = 4
"""A batch is scored in so many parts at most; each costs the model's Python once more."""
ROWS_IN_A_PART = 32
"""Parts of fewer rows cost more Python than they save arithmetic."""
WORTH_IT = 0.9
"""Parts are made where they leave less than this share of a whole batch's positions."""

if TYPE_CHECKING:
    from trl import GRPOTrainer as _Base
else:
    _Base = object

Scores = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


def parts_by_length(ends: torch.Tensor, width: int) -> list[torch.Tensor]:
    """The rows of a batch in parts of about equal length, or all of them in one part where that saves little.

    Args:
        ends: (B,) how many of a row's positions are left when padding on the right is cut off.
        width: positions of a row with its padding.

    Returns:
        Row numbers of each part, the longest row of the part first.
    """
    whole = [ends.argsort(descending=True, stable=True)]
    count = min(PARTS, len(ends) // ROWS_IN_A_PART)
    if count < 2:
        return whole
    parts = list(whole[0].chunk(count))
    left = sum(len(part) * int(ends[part[0]]) for part in parts)
    return parts if left < WORTH_IT * len(ends) * width else whole


class LeanScoring(_Base):  # type: ignore[misc]  # TRL is not typed
    """For TRL's GRPOTrainer: its scores, up to the rounding of sums, from fewer positions.

    Only padding on the right is cut off: positions, and with them models that count them from the left, stay as they
    are. With several processes, whose wrappers expect one forward pass a loss, TRL's own pass is made.
    """

    whole_batches: bool = False
    """Set where something reads the hidden states of a batch's one forward pass."""

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
        ends = ends.clamp(min=width - logits_to_keep + 1)  # at least one position is scored
        parts = parts_by_length(ends, width)
        prompts = self._read_prompts(model, input_ids, attention_mask, width - logits_to_keep)
        if len(parts) == 1 and prompts is None:
            return self._by_trl(model, input_ids, attention_mask, logits_to_keep, **kwargs)
        scored = []
        for rows in parts:
            end = int(ends[rows[0]])
            ids, mask, kept = input_ids[rows, :end], attention_mask[rows, :end], logits_to_keep - (width - end)
            if prompts is None:
                scored.append(self._by_trl(model, ids, mask, kept, **kwargs))
            else:
                scored.append(prompts.continued(model, rows, ids, mask, kept, **kwargs))
        order = torch.cat(parts).argsort()
        logps, entropies = (
            None if values[0] is None else torch.cat([_widened(value, logits_to_keep) for value in values])[order]
            for values in list(zip(*scored, strict=True))[:2]
        )
        assert logps is not None
        return logps, entropies, None

    def score_completions(self, model: Any, output: dict[str, Any]) -> torch.Tensor:
        """(B, C) log-probabilities of a rollout's completions under ``model``, no gradient."""
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        return self.score(model, ids, mask, output["completion_ids"].size(1))

    def score(self, model: Any, ids: torch.Tensor, mask: torch.Tensor, kept: int) -> torch.Tensor:
        """(B, K) log-probabilities of the last ``kept`` tokens of ``ids`` (B, T) under ``model``, no gradient."""
        checkpointing = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(self.model, checkpointing):
            logps, _, _ = self._get_per_token_logps_and_entropies(
                model, ids, mask, kept, batch_size=self.args.per_device_train_batch_size
            )
        result: torch.Tensor = logps
        return result

    def _by_trl(self, *args: Any, **kwargs: Any) -> Scores:
        scores: Scores = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return scores

    def _read_prompts(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, prompt: int
    ) -> SharedPrompts | None:
        """Each different prompt once, or None where that saves nothing or was not tried."""
        plain = self.accelerator.unwrap_model(model)
        if prompt < 2 or self.args.gradient_checkpointing or not is_small(plain) or not has_plain_cache(plain):
            return None
        padded = input_ids[:, :prompt].masked_fill(attention_mask[:, :prompt] == 0, -1)
        different, rows = torch.unique(padded, dim=0, return_inverse=True)
        if len(different) * 2 > len(rows):
            return None
        return SharedPrompts.read(model, different[:, :-1], rows)


class SharedPrompts:
    """Keys and values of the different prompts of a batch, without their last tokens, with gradient where it is on."""

    def __init__(self, cache: DynamicCache, rows: torch.Tensor) -> None:
        self._cache, self._rows = cache, rows

    @classmethod
    def read(cls, model: Any, prompts: torch.Tensor, rows: torch.Tensor) -> SharedPrompts:
        """Make the pass over the prompts.

        Args:
            model: what scores.
            prompts: (U, P) token ids, -1 on padding.
            rows: (B,) which prompt each row of the batch has.
        """
        mask = (prompts >= 0).long()
        cache = DynamicCache(config=model.config)
        model(
            input_ids=prompts.clamp(min=0), attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return cls(cache, rows)

    def continued(
        self,
        model: Any,
        rows: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        kept: int,
        *,
        compute_entropy: bool = False,
        **_: Any,
    ) -> Scores:
        """Log-probabilities and entropies (R, kept) of the last tokens of some rows, with the head that TRL uses.

        Args:
            model: what scores.
            rows: (R,) their numbers in the batch.
            input_ids: (R, W) whole rows, prompts included.
            attention_mask: (R, W).
            kept: how many tokens at the end are scored: all that come behind the prompts.
            compute_entropy: else there are no entropies.
        """
        cache = DynamicCache(config=model.config)
        which = self._rows[rows]
        for index, layer in enumerate(self._cache.layers):
            cache.update(layer.keys[which], layer.values[which], index)
        ids = input_ids[:, -kept - 1 :]
        labels = ids.masked_fill(attention_mask[:, -kept - 1 :] == 0, -100)
        labels[:, 0] = -100
        outputs = model(
            input_ids=ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=True,
            labels=labels,
            fused_lm_head=True,
        )
        return outputs.log_probs[:, -kept:], outputs.entropy[:, -kept:] if compute_entropy else None, None


def _widened(values: torch.Tensor, width: int) -> torch.Tensor:
    """Zeros, which are masked everywhere, where padding was cut off."""
    return torch.nn.functional.pad(values, (0, width - values.size(1)))
