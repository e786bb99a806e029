"""One batch of completions from a transformers model, drawn token by token.

A loop over the model instead of ``generate``: a prompt is read once for all its samples, rows that have ended leave
the batch, and the cache is written in place. Evaluation and training both draw with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

SMALL = 50_000_000
"""Parameters below which a matrix product is too small to be shared: on a CPU each core takes a batch of its own."""
LEAVE_AT = 1 / 8
"""Rows that have ended leave when they are this share of the batch: leaving costs a copy of the others' cache."""


@dataclass(frozen=True)
class Prompts:
    """The different prompts of a batch, and which row continues which."""

    ids: torch.Tensor
    """(U, P) token ids, padded on the left."""
    mask: torch.Tensor
    """(U, P): 1 on tokens of the prompt."""
    rows: torch.Tensor
    """(B,) for each row of the batch the place of its prompt."""


@dataclass(frozen=True)
class Completions:
    """What was drawn, on the CPU."""

    tokens: list[list[int]]
    """Of each row its tokens, with the end token if it drew one."""
    entropies: torch.Tensor
    """(B,) sums over a row's tokens of the entropy of the distribution each was drawn from, in nats."""
    logps: torch.Tensor
    """(B,) sums over a row's tokens of their log-probability in that distribution, in nats."""


def has_plain_cache(model: Any) -> bool:
    """Whether the model keeps keys and values of all tokens and nothing else, which is what the loop knows."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


Drawn = TypeVar("Drawn")


def is_small(model: Any) -> bool:
    """Whether batches are drawn side by side, each on one core."""
    return bool(model.device.type == "cpu" and model.num_parameters() < SMALL)


def drawn_in_order(model: Any, draws: Iterable[Callable[[], Drawn]]) -> Iterator[Drawn]:
    """What each call draws, in their order; for a small model on a CPU as many calls at once as there are cores.

    Each call has one core then, be it the last one too: sums over several cores round differently.
    """
    if not is_small(model):
        yield from (call() for call in draws)
        return
    cores = torch.get_num_threads()
    with _threads(1), ThreadPoolExecutor(cores) as pool:
        running: deque[Future[Drawn]] = deque()
        try:
            for call in draws:  # one more than there are cores, so that an interruption has little to wait for
                running.append(pool.submit(call))
                if len(running) > cores:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


@torch.inference_mode()
def draw(
    model: Any,
    prompts: Prompts,
    chances: torch.Tensor,
    *,
    ends: Sequence[int],
    distribution: Callable[[torch.Tensor], torch.Tensor],
) -> Completions:
    """Draw a completion for each row.

    Args:
        model: in evaluation mode.
        prompts: what is continued.
        chances: (T, B) uniform numbers from [0, 1): all randomness of a row is fixed before the first token, so it does
            not matter when other rows leave. T is the limit on tokens.
        ends: tokens that end a completion.
        distribution: from logits (B, V) to the log-probabilities (B, V) of the distribution that is drawn from.
    """
    device = model.device
    limit, rows = chances.shape
    chances = chances.to(device)
    last = torch.tensor(list(ends), device=device)
    tokens = torch.zeros((rows, limit), dtype=torch.long, device=device)
    entropies, logps = (torch.zeros((rows, limit), device=device) for _ in range(2))
    lengths = torch.zeros(rows, dtype=torch.long, device=device)

    logits, cache, mask, positions = _read_prompts(model, prompts)
    live = torch.arange(rows, device=device)  # which rows of the batch are still there
    going = torch.ones(rows, dtype=torch.bool, device=device)  # of those, which have not ended
    for step in range(limit):
        logp = distribution(logits)
        chosen, entropy = choose(logp, chances[step, live])
        rest = live[going]
        tokens[rest, step] = chosen[going]
        entropies[rest, step] = entropy[going]
        logps[rest, step] = logp.gather(1, chosen[:, None])[going, 0]
        lengths[rest] += 1
        going &= ~torch.isin(chosen, last)
        count = int(going.sum())
        if count == 0 or step + 1 == limit:
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
        logits = model(
            input_ids=chosen[:, None],
            attention_mask=mask,
            position_ids=positions[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
    completions = [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
    return Completions(completions, entropies.sum(dim=1).cpu(), logps.sum(dim=1).cpu())


def _read_prompts(model: Any, prompts: Prompts) -> tuple[torch.Tensor, DynamicCache, torch.Tensor | None, torch.Tensor]:
    """Each different prompt once: logits (B, V), cache, padding mask (B, P) or None, last positions (B,)."""
    mask = prompts.mask
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    padded = bool((mask == 0).any())
    cache = DynamicCache(config=model.config)
    cache.layers = [_InPlace() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    logits = model(
        input_ids=prompts.ids,
        attention_mask=mask if padded else None,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    rows = prompts.rows
    cache.batch_select_indices(rows)
    return logits[rows], cache, mask[rows] if padded else None, positions[rows, -1]


def choose(logp: torch.Tensor, chances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
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
def in_evaluation(model: Any) -> Iterator[None]:
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
