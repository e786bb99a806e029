"""All countdown problems, and the disjoint splits of them.

A problem is its key: four sorted numbers from 1 to 12 and a target from 0 to 99 that + - * and parentheses reach when
every number is used exactly once. A SHA-256 of the key decides the split, so that a split never depends on how many
problems anybody asked for, and the order within it.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

NUMBERS = range(1, 13)
HOW_MANY = 4
TARGETS = range(100)

Key = tuple[tuple[int, ...], int]
Integers = npt.NDArray[np.signedinteger[Any]]
KeySplit = Literal["base", "rl", "validation", "test"]

# Upper bounds in per cent of the hash range: 60 % of the keys train the base policy, 20 % are for RL, 10 % each remain.
_BOUNDS: tuple[tuple[KeySplit, int], ...] = (("base", 60), ("rl", 80), ("validation", 90), ("test", 100))
_LIMITS = [(-(-(bound << 64) // 100)).to_bytes(8, "big") for _, bound in _BOUNDS[:-1]]
"""The beginning of the first digest of the next split."""


def problem_id(key: Key) -> str:
    """A stable name of a problem, e.g. ``3_5_7_12_24`` for the numbers 3 5 7 12 and the target 24."""
    chosen, target = key
    return f"{_beginning(chosen)}{target}"


def _beginning(chosen: tuple[int, ...]) -> str:
    return f"{'_'.join(map(str, chosen))}_"


def split_of(key: Key) -> KeySplit:
    """The split that a key belongs to."""
    chosen, target = key
    (digest,) = _digests(chosen, [target])
    return _split(digest)


def _digests(chosen: tuple[int, ...], targets: Sequence[int]) -> list[bytes]:
    """For keys of the same numbers the SHA-256 of ``countdown-1:`` and their :func:`problem_id`."""
    begun = f"countdown-1:{_beginning(chosen)}".encode()
    return [hashlib.sha256(begun + b"%d" % target).digest() for target in targets]


def _split(digest: bytes) -> KeySplit:
    return _BOUNDS[bisect_right(_LIMITS, digest)][0]


def all_keys() -> tuple[Key, ...]:
    """Every problem of the task."""
    return tuple(solutions())


@lru_cache(maxsize=1)
def solutions() -> dict[Key, int]:
    """For every problem how many expressions solve it, the order of the operands of + and * counted."""
    return {
        (chosen, target): of_chosen[target]
        for chosen, of_chosen in _ways().items()
        for target in TARGETS
        if of_chosen[target]
    }


@lru_cache(maxsize=1)
def _ways() -> dict[tuple[int, ...], list[int]]:
    """For every choice of numbers how many expressions reach each of the targets."""
    every = list(combinations_with_replacement(NUMBERS, HOW_MANY))
    # 12 ** 4 fits into 16 bits: a quarter of the memory to fill for the first time.
    values, ways = expressions(np.array(every, np.int16))
    rows, columns = np.nonzero((values >= 0) & (values < len(TARGETS)))
    places = rows * len(TARGETS) + values[rows, columns]
    found = np.bincount(places, ways[columns], len(every) * len(TARGETS)).astype(np.int64)
    return dict(zip(every, found.reshape(len(every), len(TARGETS)).tolist(), strict=True))


@lru_cache(maxsize=4)
def keys_of(split: KeySplit) -> tuple[Key, ...]:
    """The keys of a split in an order that never changes, of which any prefix is a weighted random subset.

    A problem with twice as many expressions is twice as likely to come first: the first problems of a split are like
    those that random expressions pose, and have several solutions each, which is what makes diversity visible.
    Drawn by the exponential race, -log(u) / weight with u from the key's hash, ascending.
    """
    found = []
    for chosen, of_chosen in _ways().items():
        targets = [target for target in TARGETS if of_chosen[target]]
        for target, digest in zip(targets, _digests(chosen, targets), strict=True):
            if _split(digest) == split:
                found.append((-math.log(_uniform(digest)) / of_chosen[target], (chosen, target)))
    return tuple(key for _, key in sorted(found))


def _uniform(digest: bytes) -> float:
    return (int.from_bytes(digest[8:16], "big") + 1) / 2**64


def expressions(numbers: Integers) -> tuple[Integers, Integers]:
    """The values of all expressions over numbers, each of which is used once: binary trees with ordered operands.

    Args:
        numbers: (M, N) M choices of N numbers, of a type that holds their values.

    Returns:
        (M, E) a column a tree up to the order of the operands of + and *, and (E,) in how many orders it can be
        written. Trees are of positions: where numbers are equal, so are some columns.
    """
    if numbers.shape[1] == 1:
        return numbers, np.ones(1, np.int64)
    values, ways = [], []
    for left, right in _bipartitions(tuple(range(numbers.shape[1]))):
        (a, ways_a), (b, ways_b) = expressions(numbers[:, left]), expressions(numbers[:, right])
        a, b = a[:, :, None], b[:, None, :]
        both = np.multiply.outer(ways_a, ways_b).ravel()
        for reached, orders in ((a + b, 2), (a * b, 2), (a - b, 1), (b - a, 1)):
            values.append(reached.reshape(len(numbers), -1))
            ways.append(orders * both)
    return np.concatenate(values, axis=1), np.concatenate(ways)


def _bipartitions(places: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each way to part the places in two once: the part with the first one comes first."""
    others = range(1, len(places))
    for size in range(len(places) - 1):
        for picked in combinations(others, size):
            yield (
                (places[0], *(places[i] for i in picked)),
                tuple(places[i] for i in others if i not in picked),
            )
