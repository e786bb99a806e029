"""The protocol of back ends that sample completions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Batch:
    """Completions drawn together. They do not depend on what was drawn before (with vLLM: up to rounding)."""

    prompts: Sequence[str]
    """One prompt per completion; for n samples of a problem its prompt is repeated n times."""
    seed: int


@dataclass(frozen=True)
class Sample:
    """One sampled completion."""

    text: str
    tokens: int
    """Length in tokens, including the end token."""
    finished: bool
    """Whether the policy ended it. False means that the token limit cut it off."""
    logprob: float
    """Sum over tokens of their log-probability under the distribution each was sampled from, in nats."""
    entropy: float | None
    """Mean over tokens of the entropy of the distribution each was sampled from, in nats; None if unknown."""
    entropy_topk: float | None = None
    """The part of that entropy from the k likeliest tokens, a lower bound, in nats; set if only those are known."""
    missing_mass: float | None = None
    """With ``entropy_topk``: mean over tokens of the total probability of all but the k likeliest tokens."""
    entropy_at_most: float | None = None
    """With ``entropy_topk``: an upper bound of the entropy, see :func:`progrpo_cli.metrics.entropy.topk_entropy`."""


def derived_seed(name: str) -> int:
    """A 32-bit seed for a named piece of work, so that each batch draws independently and can be repeated."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


class Sampler(Protocol):
    """Samples completions at a fixed temperature, top_p and length limit.

    Temperature 0 is greedy: it takes the likeliest token each time, and entropy and log-probability are 0.
    """

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        """Yield the samples of each batch in order, one per prompt. Several batches may be computed at once."""
