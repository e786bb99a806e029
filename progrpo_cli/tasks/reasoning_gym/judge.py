"""reasoning-gym's own scoring of an answer, run in a worker of :mod:`progrpo_cli.tasks.judging`."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import reasoning_gym

SIZE = 50_000
"""Entries a generator may make; some draw a number for each of them in advance."""


@lru_cache(maxsize=8)
def generator(name: str, seed: int) -> Any:
    """A generator's dataset: ``[index]`` makes an entry, ``score_answer`` judges one."""
    return reasoning_gym.create_dataset(name, seed=seed, size=SIZE)


def judge(request: Mapping[str, Any]) -> str:
    """``correct`` for the full score of 1, else ``wrong``: partial credit is no verifiable reward of 0 or 1."""
    entry = pickle.loads(base64.b64decode(request["entry"]))  # ours: what the task made, never what a policy wrote
    score = generator(request["generator"], request["seed"]).score_answer(request["answer"], entry)
    return "correct" if score >= 1.0 else "wrong"
