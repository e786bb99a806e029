"""All countdown problems, and the disjoint splits of them.

A problem is its key: four sorted numbers from 1 to 12 and a target from 0 to 99 that + - * and parentheses reach when
every number is used exactly once. A SHA-256 of the key decides the split, so that a split never depends on how many
problems anybody asked for, and the order within it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
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
    """Every problem of the task (about two seconds, once a process)."""
    return tuple(
        (chosen, target)
        for chosen in combinations_with_replacement(NUMBERS, HOW_MANY)
        for target in sorted(expressions_by_value(chosen).keys() & set(TARGETS))
    )


@lru_cache(maxsize=4)
def keys_of(split: KeySplit) -> tuple[Key, ...]:
    """The keys of a split in an order that never changes, of which any prefix is a weighted random subset.

    A problem with twice as many expressions is twice as likely to come first: the first problems of a split are like
    those that random expressions pose, and have several solutions each, which is what makes diversity visible.
    Drawn by the exponential race, -log(u) / weight with u from the key's hash, ascending.
    """
    found = [key for key in all_keys() if split_of(key) == split]
    return tuple(sorted(found, key=lambda key: -math.log(_uniform(key)) / expressions_by_value(key[0])[key[1]]))


def _uniform(key: Key) -> float:
    return (int.from_bytes(_digest(key)[8:16], "big") + 1) / 2**64


@lru_cache(maxsize=2**12)
def expressions_by_value(chosen: tuple[int, ...]) -> dict[int, int]:
    """For each value that the sorted ``chosen`` numbers reach, in how many ways: binary trees with ordered operands."""
    if len(chosen) == 1:
        return {chosen[0]: 1}
    found: Counter[int] = Counter()
    for left, right in _bipartitions(chosen):
        for a, ways_a in expressions_by_value(left).items():
            for b, ways_b in expressions_by_value(right).items():
                ways = ways_a * ways_b
                found[a + b] += 2 * ways  # a+b and b+a
                found[a * b] += 2 * ways
                found[a - b] += ways
                found[b - a] += ways
    return dict(found)


def _bipartitions(chosen: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each way to part the numbers (by position) in two once: the part with the first number comes first."""
    others = range(1, len(chosen))
    for size in range(len(chosen) - 1):
        for picked in combinations(others, size):
            yield (
                (chosen[0], *(chosen[i] for i in picked)),
                tuple(chosen[i] for i in others if i not in picked),
            )
