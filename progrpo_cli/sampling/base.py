"""What a back end that samples completions has to do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Batch:
    """Completions drawn together: the same batch gives the same, whatever was drawn before (vLLM: up to rounding)."""

    prompts: Sequence[str]
    """One a completion: n equal prompts in a row are n samples of one problem."""
    seed: int


@dataclass(frozen=True)
class Sample:
    """One sampled completion."""

    text: str
    tokens: int
    """Length in tokens, the end-of-sequence token included."""
    finished: bool
    """Whether the policy ended it; false: the token limit did."""
    logprob: float
    """Sum over its tokens of their log-probability under the distribution each was sampled from, in nats."""
    entropy: float | None
    """Mean over its tokens of the entropy of the distribution each was sampled from, in nats; None: not at hand."""
    entropy_topk: float | None = None
    """Where only the k likeliest tokens are known: their part of that entropy, a lower bound of it, in nats."""
    missing_mass: float | None = None
    """With ``entropy_topk``: mean over its tokens of the probability of all tokens but those k."""
    entropy_at_most: float | None = None
    """With ``entropy_topk``: an upper bound of that entropy, see :func:`progrpo_cli.metrics.entropy.topk_entropy`."""


def derived_seed(name: str) -> int:
    """A seed of 32 bits for a named piece of work: batches of one run draw independently, and each can be repeated."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


class Sampler(Protocol):
    """Samples at the temperature, top_p and length limit that it was made with.

    Temperature 0 is greedy: of each distribution the likeliest token, so that entropy and log-probability are 0.
    """

    def sample(self, batches: Sequence[Batch]) -> Iterator[list[Sample]]:
        """For each batch, in order, one completion a prompt, in order; several batches may be under way at once."""
