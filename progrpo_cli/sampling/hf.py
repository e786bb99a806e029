"""Sampling with transformers, with the exact entropy of every distribution that a token was drawn from.

On a CPU small models draw a batch a core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TopPLogitsWarper

from progrpo_cli.sampling.base import Batch, Sample
from progrpo_cli.sampling.chat import as_chat
from progrpo_cli.sampling.decoding import Prompts, draw, drawn_in_order, in_evaluation
from progrpo_cli.sampling.ends import complete, end_tokens


class HfSampler:
    """A :class:`progrpo_cli.sampling.base.Sampler` on a transformers model.

    Sampling leaves no trace in the caller: random state and training mode are as before, so that held-out evaluation in
    the middle of training changes nothing in it.
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
        """``stop_tokens`` are texts of tokens that end a completion besides the policy's own, see `end_tokens`."""
        self._model: Any = model
        self._tokenizer: Any = tokenizer
        self._temperature = temperature
        self._top_p = TopPLogitsWarper(top_p) if top_p < 1.0 else None
        self._max_new_tokens = max_new_tokens
        self._chat = chat
        self._ends = end_tokens(tokenizer, self._model.generation_config, stop_tokens)
        complete(tokenizer, self._ends)

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        """See :class:`progrpo_cli.sampling.base.Sampler`; a batch's samples do not depend on the number of cores."""
        with in_evaluation(self._model):
            yield from drawn_in_order(self._model, (partial(self._draw, batch) for batch in batches))

    def _draw(self, batch: Batch) -> list[Sample]:
        device = self._model.device
        unique = {prompt: place for place, prompt in enumerate(dict.fromkeys(batch.prompts))}
        encoded = self._encode(list(unique)).to(device)
        rows = torch.tensor([unique[prompt] for prompt in batch.prompts], device=device)
        generator = torch.Generator().manual_seed(batch.seed)
        chances = torch.rand((self._max_new_tokens, len(batch.prompts)), generator=generator)
        prompts = Prompts(encoded.input_ids, encoded.attention_mask, rows)
        drawn = draw(self._model, prompts, chances, ends=self._ends, distribution=self._sampled_from)
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

    def _sampled_from(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, V) log-probabilities of the distribution that is sampled from; at temperature 0 one token has all."""
        scores = logits.float()
        if self._temperature == 0:
            certain = torch.full_like(scores, -torch.inf)
            return certain.scatter_(1, scores.argmax(dim=-1, keepdim=True), 0.0)
        if self._temperature != 1.0:
            scores = scores / self._temperature
        if self._top_p is not None:
            scores = self._top_p(None, scores)
        return scores.log_softmax(dim=-1)

    def _encode(self, prompts: Sequence[str]) -> Any:
        if not self._chat:
            return self._tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
        return self._tokenizer.apply_chat_template(
            [as_chat(prompt) for prompt in prompts],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
            padding=True,
            tokenizer_kwargs={"padding_side": "left"},
        )
