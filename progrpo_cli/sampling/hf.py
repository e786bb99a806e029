"""Sampling with transformers, including the exact entropy of each distribution that a token was drawn from.

On a CPU, each core draws a batch of its own if the model is small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TopPLogitsWarper

from progrpo_cli.sampling.base import Batch, Sample
from progrpo_cli.sampling.chat import as_chat
from progrpo_cli.sampling.decoders import decoder_for, uses_own_loop
from progrpo_cli.sampling.decoding import Prompts, draw_in_order, evaluation_mode
from progrpo_cli.sampling.ends import end_tokens, ensure_special_tokens
from progrpo_cli.sampling.positions import require_positions


class HfSampler:
    """A :class:`progrpo_cli.sampling.base.Sampler` on a transformers model.

    It leaves the caller's random state and the model's training mode unchanged, so validation does not affect training.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        chat: bool,
        stop_tokens: Sequence[str] = (),
    ) -> None:
        """``stop_tokens`` are the texts of further end tokens, see :func:`progrpo_cli.sampling.ends.end_tokens`."""
        self._model: Any = model
        self._tokenizer: Any = tokenizer
        self._temperature = temperature
        self._top_p = TopPLogitsWarper(top_p) if top_p < 1.0 else None
        self._max_new_tokens = max_new_tokens
        self._chat = chat
        self._ends = end_tokens(tokenizer, self._model.generation_config, stop_tokens)
        ensure_special_tokens(tokenizer, self._ends)

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        """See :class:`progrpo_cli.sampling.base.Sampler`. The samples do not depend on the number of cores."""
        prompts = list(dict.fromkeys(prompt for batch in batches for prompt in batch.prompts))
        if prompts:
            longest = max(map(len, self._encode(prompts, padded=False).input_ids))
            require_positions(self._model.config, longest, self._max_new_tokens)
        in_parallel = uses_own_loop(self._model)  # chosen here, before several threads use the decoder
        with evaluation_mode(self._model):
            if in_parallel:
                yield from draw_in_order(self._model, (partial(self._draw, batch) for batch in batches))
            else:  # sequentially, because some models keep state in themselves
                yield from map(self._draw, batches)

    def _draw(self, batch: Batch) -> list[Sample]:
        device = self._model.device
        unique = {prompt: index for index, prompt in enumerate(dict.fromkeys(batch.prompts))}
        encoded = self._encode(list(unique)).to(device)
        rows = torch.tensor([unique[prompt] for prompt in batch.prompts], device=device)
        generator = torch.Generator().manual_seed(batch.seed)
        uniforms = torch.rand((self._max_new_tokens, len(batch.prompts)), generator=generator)
        prompts = Prompts(encoded.input_ids, encoded.attention_mask, rows)
        drawn = decoder_for(self._model)(
            self._model, prompts, uniforms, ends=self._ends, distribution=self._distribution
        )
        texts = self._tokenizer.batch_decode(drawn.tokens, skip_special_tokens=True)
        return [
            Sample(
                text=text,
                tokens=len(tokens),
                finished=tokens[-1] in self._ends,
                logprob=logprob,
                entropy=entropy / len(tokens),
            )
            for text, tokens, logprob, entropy in zip(
                texts, drawn.tokens, drawn.logps.tolist(), drawn.entropies.tolist(), strict=True
            )
        ]

    def _distribution(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (B, V) of the distribution to sample from. At temperature 0 one token has probability 1."""
        scores = logits.float()
        if self._temperature == 0:
            return torch.full_like(scores, -torch.inf).scatter_(1, scores.argmax(dim=-1, keepdim=True), 0.0)
        if self._temperature != 1.0:
            scores = scores / self._temperature
        if self._top_p is not None:
            scores = self._top_p(None, scores)
        return scores.log_softmax(dim=-1)

    def _encode(self, prompts: Sequence[str], *, padded: bool = True) -> Any:
        tensors: dict[str, Any] = {"return_tensors": "pt", "padding": True} if padded else {}
        if not self._chat:
            return self._tokenizer(list(prompts), padding_side="left", **tensors)
        return self._tokenizer.apply_chat_template(
            [as_chat(prompt) for prompt in prompts],
            add_generation_prompt=True,
            return_dict=True,
            **tensors,
            tokenizer_kwargs={"padding_side": "left"},
        )
