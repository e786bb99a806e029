"""All countdown problems, and the disjoint splits of them.

A problem is its key: four sorted numbers from 1 to 12 and a target from 0 to 99 that + - * and parentheses reach when
every number is used exactly once. A SHA-256 of the key decides the split, so that a split never depends on how many
problems anybody asked for, and gives the order within it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from typing import Literal

NUMBERS = range(1, 13)
HOW_MANY = 4
TARGETS = range(0, 100)

Key = tuple[tuple[int, ...], int]
KeySplit = Literal["base", "rl", "validation", "test"]

# Upper bounds in per cent of the hash range: 60 % of the keys train the base policy, 20 % are for RL, 10 % each remain.
_BOUNDS: tuple[tuple[KeySplit, int], ...] = (("base", 60), ("rl", 80), ("validation", 90), ("test", 100))


def problem_id(key: Key) -> str:
    """A stable name of a problem, e.g. ``3_5_7_12_24`` for the numbers 3 5 7 12 and the target 24."""
    chosen, target = key
    return "_".join(str(number) for number in (*chosen, target))


def _digest(key: Key) -> bytes:
    return hashlib.sha256(f"countdown-1:{problem_id(key)}".encode()).digest()


@lru_cache(maxsize=2**18)
def split_of(key: Key) -> KeySplit:
    """The split that a key belongs to."""
    share = int.from_bytes(_digest(key)[:8], "big") * 100 >> 64
    return next(split for split, bound in _BOUNDS if share < bound)


@lru_cache(maxsize=1)
def all_keys() -> tuple[Key, ...]:
    """Every problem of the task (about a second, once a process)."""
    return tuple(
        (chosen, target)
        for chosen in combinations_with_replacement(NUMBERS, HOW_MANY)
        for target in sorted(reachable(chosen).intersection(TARGETS))
    )


@lru_cache(maxsize=4)
def keys_of(split: KeySplit) -> tuple[Key, ...]:
    """The keys of a split in the order of their hash: any prefix is a random subset that never changes."""
    return tuple(sorted((key for key in all_keys() if split_of(key) == split), key=lambda key: _digest(key)[8:]))


@lru_cache(maxsize=2**12)
def reachable(chosen: tuple[int, ...]) -> frozenset[int]:
    """All values of expressions that use each of the sorted ``chosen`` numbers exactly once."""
    if len(chosen) == 1:
        return frozenset(chosen)
    found: set[int] = set()
    for left, right in _bipartitions(chosen):
        for a in reachable(left):
            for b in reachable(right):
                found.update((a + b, a - b, b - a, a * b))
    return frozenset(found)


def _bipartitions(chosen: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    indices = range(len(chosen))
    for size in range(1, len(chosen) // 2 + 1):
        for picked in combinations(indices, size):
            yield tuple(chosen[i] for i in picked), tuple(chosen[i] for i in indices if i not in picked)
