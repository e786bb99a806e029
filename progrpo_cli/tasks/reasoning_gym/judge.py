"""Judge an answer with reasoning-gym's own scoring, in a worker of :mod:`progrpo_cli.tasks.judging`."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import reasoning_gym

DATASET_SIZE = 50_000
"""Entries of a generator's dataset. Some generators draw a random number for each entry in advance."""


@lru_cache(maxsize=8)
def generator(name: str, seed: int) -> Any:
    """Return a generator's dataset: ``[index]`` makes an entry, ``score_answer`` judges an answer to it."""
    return reasoning_gym.create_dataset(name, seed=seed, size=DATASET_SIZE)


def judge(request: Mapping[str, Any]) -> str:
    """Return ``correct`` for the full score of 1, else ``wrong``: rewards are 0 or 1, so there is no partial credit."""
    entry = pickle.loads(base64.b64decode(request["entry"]))  # made by the task, not by a policy
    score = generator(request["generator"], request["seed"]).score_answer(request["answer"], entry)
    return "correct" if score >= 1.0 else "wrong"
