"""Sampling with transformers, with the exact entropy of every distribution that a token was drawn from.

A loop of our own over the model instead of ``generate``: a prompt is read once for all its samples, rows that have
ended leave the batch, the cache is written in place, and on a CPU small models draw a batch a core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase, TopPLogitsWarper
from transformers.cache_utils import DynamicLayer

from progrpo_cli.sampling.base import Batch, Sample
from progrpo_cli.sampling.chat import as_chat

SMALL = 50_000_000
"""Parameters below which a matrix product is too small to be shared: on a CPU each core takes a batch of its own."""
LEAVE_AT = 1 / 8
"""Rows that have ended leave when they are this share of the batch: leaving costs a copy of the others' cache."""


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
    ) -> None:
        self._model: Any = model
        self._tokenizer: Any = tokenizer
        self._temperature = temperature
        self._top_p = TopPLogitsWarper(top_p) if top_p < 1.0 else None
        self._max_new_tokens = max_new_tokens
        self._chat = chat

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        """See :class:`progrpo_cli.sampling.base.Sampler`; a batch's samples do not depend on the number of cores."""
        with _in_evaluation(self._model):
            if self._model.device.type == "cpu" and self._model.num_parameters() < SMALL:
                yield from self._side_by_side(batches, torch.get_num_threads())
            else:
                yield from map(self._draw, batches)

    def _side_by_side(self, batches: Sequence[Batch], cores: int) -> Iterator[list[Sample]]:
        """Each batch on one core, be it the last one too: sums over several cores round differently."""
        with _threads(1), ThreadPoolExecutor(cores) as pool:
            running: deque[Future[list[Sample]]] = deque()
            try:
                for batch in batches:  # one more than there are cores, so that an interruption has little to wait for
                    running.append(pool.submit(self._draw, batch))
                    if len(running) > cores:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()

    @torch.inference_mode()
    def _draw(self, batch: Batch) -> list[Sample]:
        rows = len(batch.prompts)
        device = self._model.device
        # All randomness of a row is fixed here, so it does not matter when others leave.
        generator = torch.Generator().manual_seed(batch.seed)
        chances = torch.rand((self._max_new_tokens, rows), generator=generator).to(device)
        tokens = torch.full((rows, self._max_new_tokens), self._tokenizer.pad_token_id, device=device)
        entropies, logps = (torch.zeros((rows, self._max_new_tokens), device=device) for _ in range(2))
        lengths = torch.zeros(rows, dtype=torch.long, device=device)

        logits, cache, mask, positions = self._prefill(batch.prompts)
        live = torch.arange(rows, device=device)  # which rows of the batch are still there
        going = torch.ones(rows, dtype=torch.bool, device=device)  # of those, which have not ended
        for step in range(self._max_new_tokens):
            logp = self._sampled_from(logits)
            chosen, entropy = _choose(logp, chances[step, live])
            rest = live[going]
            tokens[rest, step] = chosen[going]
            entropies[rest, step] = entropy[going]
            logps[rest, step] = logp.gather(1, chosen[:, None])[going, 0]
            lengths[rest] += 1
            going &= chosen != self._tokenizer.eos_token_id
            count = int(going.sum())
            if count == 0 or step + 1 == self._max_new_tokens:
                break
            if len(live) - count >= LEAVE_AT * len(live):
                stay = going.nonzero()[:, 0]
                cache.batch_select_indices(stay)
                live, chosen, positions = live[stay], chosen[stay], positions[stay]
                mask = None if mask is None else mask[stay]
                going = torch.ones(count, dtype=torch.bool, device=device)
            positions = positions + 1
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones((len(live), 1))], dim=1)
            logits = self._model(
                input_ids=chosen[:, None],
                attention_mask=mask,
                position_ids=positions[:, None],
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]
        return self._samples(tokens.cpu(), entropies.cpu(), logps.cpu(), lengths.cpu())

    def _prefill(self, prompts: Sequence[str]) -> tuple[torch.Tensor, DynamicCache, torch.Tensor | None, torch.Tensor]:
        """Each different prompt once: logits (B, V), cache, padding mask (B, P) or None, last positions (B,)."""
        unique = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        encoded = self._encode(list(unique)).to(self._model.device)
        mask = encoded.attention_mask
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        padded = bool((mask == 0).any())
        cache = DynamicCache(config=self._model.config)
        cache.layers = [_InPlace() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        logits = self._model(
            input_ids=encoded.input_ids,
            attention_mask=mask if padded else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        rows = torch.tensor([unique[prompt] for prompt in prompts], device=self._model.device)
        cache.batch_select_indices(rows)
        return logits[rows], cache, mask[rows] if padded else None, positions[rows, -1]

    def _sampled_from(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, V) log-probabilities of the distribution that is sampled from."""
        scores = logits.float()
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

    def _samples(
        self, tokens: torch.Tensor, entropies: torch.Tensor, logps: torch.Tensor, lengths: torch.Tensor
    ) -> list[Sample]:
        completions = [row[:length].tolist() for row, length in zip(tokens, lengths.tolist(), strict=True)]
        texts = self._tokenizer.batch_decode(completions, skip_special_tokens=True)
        mean_entropies = (entropies.sum(dim=1) / lengths).tolist()
        sums = logps.sum(dim=1).tolist()
        return [
            Sample(
                text=text,
                tokens=len(completion),
                finished=completion[-1] == self._tokenizer.eos_token_id,
                logprob=logprob,
                entropy=entropy,
            )
            for text, completion, logprob, entropy in zip(texts, completions, sums, mean_entropies, strict=True)
        ]


def _choose(logp: torch.Tensor, chances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens at ``chances`` (B,) of the cumulative distribution, and the distribution's entropy, both (B,)."""
    probabilities = logp.exp()
    entropy = torch.special.entr(probabilities).sum(dim=-1)  # entr(0) = 0
    cumulative = probabilities.cumsum(dim=-1)
    # Rounding may end the sum below 1; a token of no probability is never the first to pass the mark.
    mark = chances[:, None] * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, mark, right=True)[:, 0]
    last = cumulative.argmax(dim=-1)  # the first place that has all of the sum
    return torch.minimum(chosen, last), entropy


class _InPlace(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """A layer of the cache with room to spare, so that a step writes one token and copies the rest but now and then."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.size(-2)
        if self._buffers is None:
            self._buffers = (_roomy(key_states, end), _roomy(value_states, end))
        elif end > self._buffers[0].size(2):
            self._copy(self.keys, self.values)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._copy(self.keys[indices], self.values[indices])

    def _copy(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        length = keys.size(2)
        self._buffers = (_roomy(keys, length), _roomy(values, length))
        for buffer, filled in zip(self._buffers, (keys, values), strict=True):
            buffer[:, :, :length] = filled
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


def _roomy(like: torch.Tensor, length: int) -> torch.Tensor:
    """Empty, with room for half as many tokens again, and some."""
    return like.new_empty((like.size(0), like.size(1), length + length // 2 + 16, like.size(3)))


@contextmanager
def _in_evaluation(model: Any) -> Iterator[None]:
    """No dropout, and the model as it was afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of torch's for one operation."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
