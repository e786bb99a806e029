"""What a back end that samples completions has to do."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Sample:
    """One sampled completion."""

    text: str
    tokens: int
    """Length in tokens, the end-of-sequence token included."""
    finished: bool
    """Whether the policy ended it; false: the token limit did."""
    entropy: float
    """Mean over its tokens of the entropy of the distribution each was sampled from, in nats."""
    logprob: float
    """Sum over its tokens of their log-probability under that distribution, in nats."""


def derived_seed(name: str) -> int:
    """A seed of 32 bits for a named piece of work: batches of one run draw independently, and each can be repeated."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


class Sampler(Protocol):
    """Samples at the temperature, top_p and length limit that it was made with."""

    def sample(self, prompts: Sequence[str], seed: int) -> list[Sample]:
        """One completion a prompt, in order; the same prompts and seed give the same completions."""
