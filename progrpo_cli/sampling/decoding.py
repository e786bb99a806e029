"""Our decoding loop: draws a batch of completions from a transformers model, token by token.

Unlike ``generate``, it reads a prompt once for all its samples, removes rows that have ended from the batch, and writes
the cache in place. Evaluation and training both use it.
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
"""A model with fewer parameters is too small to spread a matrix product over cores: each core draws its own batch."""
REMOVE_AT = 1 / 8
"""Ended rows are removed when they are this share of the batch, because removal copies the cache of the others."""


@dataclass(frozen=True)
class Prompts:
    """The distinct prompts of a batch, and the prompt of each row."""

    ids: torch.Tensor
    """(U, P) token ids, padded on the left."""
    mask: torch.Tensor
    """(U, P), 1 on tokens of the prompt."""
    rows: torch.Tensor
    """(B,) index of each row's prompt."""


@dataclass(frozen=True)
class Completions:
    """The drawn completions of a batch, on the CPU."""

    tokens: list[list[int]]
    """Tokens of each row, including its end token if it drew one."""
    entropies: torch.Tensor
    """(B,) sums over each row's tokens of the entropy of the distribution they were drawn from, in nats."""
    logps: torch.Tensor
    """(B,) sums over each row's tokens of their log-probability under that distribution, in nats."""


def has_plain_cache(model: Any) -> bool:
    """Whether the model's cache holds only keys and values of all tokens, the kind that the loop supports."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


T = TypeVar("T")


def is_small(model: Any) -> bool:
    """Whether batches are drawn in parallel, one per core."""
    return bool(model.device.type == "cpu" and model.num_parameters() < SMALL)


def draw_in_order(model: Any, draws: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of the calls in order. For a small model on a CPU, one call per core runs at once.

    Each call, also a single one, then uses one core: sums over several cores round differently.
    """
    if not is_small(model):
        yield from (call() for call in draws)
        return
    cores = torch.get_num_threads()
    with _torch_threads(1), ThreadPoolExecutor(cores) as pool:
        running: deque[Future[T]] = deque()
        try:
            for call in draws:  # at most one call more than cores, so that an interrupt waits only briefly
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
    uniforms: torch.Tensor,
    *,
    ends: Sequence[int],
    distribution: Callable[[torch.Tensor], torch.Tensor],
) -> Completions:
    """Draw a completion for each row.

    Args:
        model: the model, in evaluation mode.
        prompts: the prompts to continue.
        uniforms: (T, B) uniform numbers from [0, 1), where T is the token limit. They fix the randomness of each row in
            advance, so the removal of other rows does not affect it.
        ends: tokens that end a completion.
        distribution: maps logits (B, V) to the log-probabilities (B, V) of the distribution to draw from.
    """
    device = model.device
    limit, rows = uniforms.shape
    uniforms = uniforms.to(device)
    end_tokens = torch.tensor(list(ends), device=device)
    tokens = torch.zeros((rows, limit), dtype=torch.long, device=device)
    entropies, logps = (torch.zeros((rows, limit), device=device) for _ in range(2))
    lengths = torch.zeros(rows, dtype=torch.long, device=device)

    logits, cache, mask, positions = _read_prompts(model, prompts)
    kept = torch.arange(rows, device=device)  # numbers of the rows that are still in the batch
    active = torch.ones(rows, dtype=torch.bool, device=device)  # which of them have not ended
    for step in range(limit):
        logp = distribution(logits)
        chosen, entropy = choose_tokens(logp, uniforms[step, kept])
        active_rows = kept[active]
        tokens[active_rows, step] = chosen[active]
        entropies[active_rows, step] = entropy[active]
        logps[active_rows, step] = logp.gather(1, chosen[:, None])[active, 0]
        lengths[active_rows] += 1
        active &= ~torch.isin(chosen, end_tokens)
        count = int(active.sum())
        if count == 0 or step + 1 == limit:
            break
        if len(kept) - count >= REMOVE_AT * len(kept):
            indices = active.nonzero()[:, 0]
            cache.batch_select_indices(indices)
            kept, chosen, positions = kept[indices], chosen[indices], positions[indices]
            mask = None if mask is None else mask[indices]
            active = torch.ones(count, dtype=torch.bool, device=device)
        positions = positions + 1
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones((len(kept), 1))], dim=1)
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
    """Read each distinct prompt once: logits (B, V), cache, padding mask (B, P) or None, and last positions (B,)."""
    mask = prompts.mask
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    padded = bool((mask == 0).any())
    cache = DynamicCache(config=model.config)
    cache.layers = [_PreallocatedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
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


def choose_tokens(logp: torch.Tensor, uniforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw tokens by inverse transform: the tokens at ``uniforms`` (B,) of the cumulative distribution.

    Returns:
        The tokens and the entropies of the distributions in nats, both (B,).
    """
    probabilities = logp.exp()
    entropy = torch.special.entr(probabilities).sum(dim=-1)  # entr(0) = 0
    cumulative = probabilities.cumsum(dim=-1)
    # Rounding may leave the total below 1. With `right=True` a token of probability 0 is never chosen.
    thresholds = uniforms[:, None] * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, thresholds, right=True)[:, 0]
    last = cumulative.argmax(dim=-1)  # the first token at which the total is reached
    return torch.minimum(chosen, last), entropy


class _PreallocatedLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """A cache layer with spare room, so that a step writes one token and rarely copies the others."""

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
            self._buffers = (_allocate(key_states, end), _allocate(value_states, end))
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
        self._buffers = (_allocate(keys, length), _allocate(values, length))
        for buffer, filled in zip(self._buffers, (keys, values), strict=True):
            buffer[:, :, :length] = filled
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


def _allocate(like: torch.Tensor, length: int) -> torch.Tensor:
    """An empty buffer with room for about half as many tokens again."""
    return like.new_empty((like.size(0), like.size(1), length + length // 2 + 16, like.size(3)))


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Put the model in evaluation mode (no dropout), and restore its mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Set the number of threads that torch uses for one operation, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
