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
from progrpo_cli.sampling.decoding import Prompts, drawn_in_order, in_evaluation
from progrpo_cli.sampling.ends import complete, end_tokens
from progrpo_cli.sampling.positions import require_positions
from progrpo_cli.sampling.ways import draws_by_loop, way_for


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
        prompts = list(dict.fromkeys(prompt for batch in batches for prompt in batch.prompts))
        if prompts:
            longest = max(map(len, self._encode(prompts, padded=False).input_ids))
            require_positions(self._model.config, longest, self._max_new_tokens)
        by_loop = draws_by_loop(self._model)  # found out here, before several threads ask
        with in_evaluation(self._model):
            if by_loop:
                yield from drawn_in_order(self._model, (partial(self._draw, batch) for batch in batches))
            else:  # one after the other: some models keep their state in themselves
                yield from map(self._draw, batches)

    def _draw(self, batch: Batch) -> list[Sample]:
        device = self._model.device
        unique = {prompt: place for place, prompt in enumerate(dict.fromkeys(batch.prompts))}
        encoded = self._encode(list(unique)).to(device)
        rows = torch.tensor([unique[prompt] for prompt in batch.prompts], device=device)
        generator = torch.Generator().manual_seed(batch.seed)
        chances = torch.rand((self._max_new_tokens, len(batch.prompts)), generator=generator)
        prompts = Prompts(encoded.input_ids, encoded.attention_mask, rows)
        drawn = way_for(self._model)(self._model, prompts, chances, ends=self._ends, distribution=self._sampled_from)
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
