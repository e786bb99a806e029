"""All countdown problems and their disjoint splits.

A problem is identified by its key: four sorted numbers from 1 to 12, and a target from 0 to 99 that can be reached with
+ - * and parentheses, using every number exactly once. A SHA-256 of the key decides the split and the order within it,
so neither depends on how many problems are requested.
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
NUMBER_COUNT = 4
TARGETS = range(100)

Key = tuple[tuple[int, ...], int]
Integers = npt.NDArray[np.signedinteger[Any]]
KeySplit = Literal["base", "rl", "validation", "test"]

# Upper bounds in per cent of the hash range: 60 % of the keys train the base policy, 20 % are for RL, 10 % each remain.
_BOUNDS: tuple[tuple[KeySplit, int], ...] = (("base", 60), ("rl", 80), ("validation", 90), ("test", 100))
_LIMITS = [(-(-(bound << 64) // 100)).to_bytes(8, "big") for _, bound in _BOUNDS[:-1]]
"""The first 8 bytes of the smallest digest of the next split."""


def problem_id(key: Key) -> str:
    """Return the stable id of a problem, e.g. ``3_5_7_12_24`` for the numbers 3 5 7 12 and the target 24."""
    numbers, target = key
    return f"{_id_prefix(numbers)}{target}"


def _id_prefix(numbers: tuple[int, ...]) -> str:
    return f"{'_'.join(map(str, numbers))}_"


def split_of(key: Key) -> KeySplit:
    """Return the split that a key belongs to."""
    numbers, target = key
    (digest,) = _digests(numbers, [target])
    return _split(digest)


def _digests(numbers: tuple[int, ...], targets: Sequence[int]) -> list[bytes]:
    """Return the SHA-256 of ``countdown-1:`` and the :func:`problem_id`, for each target with the same numbers."""
    prefix = f"countdown-1:{_id_prefix(numbers)}".encode()
    return [hashlib.sha256(prefix + b"%d" % target).digest() for target in targets]


def _split(digest: bytes) -> KeySplit:
    return _BOUNDS[bisect_right(_LIMITS, digest)][0]


def all_keys() -> tuple[Key, ...]:
    """Return the keys of all problems."""
    return tuple(solution_counts())


@lru_cache(maxsize=1)
def solution_counts() -> dict[Key, int]:
    """Return the number of expressions that solve each problem. Orders of the operands of + and * count separately."""
    return {
        (numbers, target): counts[target]
        for numbers, counts in _counts_by_numbers().items()
        for target in TARGETS
        if counts[target]
    }


@lru_cache(maxsize=1)
def _counts_by_numbers() -> dict[tuple[int, ...], list[int]]:
    """Return, for every choice of numbers, how many expressions reach each target."""
    choices = list(combinations_with_replacement(NUMBERS, NUMBER_COUNT))
    # 12 ** 4 fits into 16 bits, which need a quarter of the memory of 64.
    values, orders = expressions(np.array(choices, np.int16))
    rows, columns = np.nonzero((values >= 0) & (values < len(TARGETS)))
    cells = rows * len(TARGETS) + values[rows, columns]
    counts = np.bincount(cells, orders[columns], len(choices) * len(TARGETS)).astype(np.int64)
    return dict(zip(choices, counts.reshape(len(choices), len(TARGETS)).tolist(), strict=True))


@lru_cache(maxsize=4)
def keys_of(split: KeySplit) -> tuple[Key, ...]:
    """Return the keys of a split in a fixed order. Each prefix is a weighted random subset.

    A problem with twice as many expressions is twice as likely to come first. So the first problems of a split are like
    those that random expressions pose, and have several solutions each, which makes diversity visible. The order is an
    exponential race: ascending -log(u) / weight, with u from the key's hash.
    """
    race = []
    for numbers, counts in _counts_by_numbers().items():
        targets = [target for target in TARGETS if counts[target]]
        for target, digest in zip(targets, _digests(numbers, targets), strict=True):
            if _split(digest) == split:
                race.append((-math.log(_uniform(digest)) / counts[target], (numbers, target)))
    return tuple(key for _, key in sorted(race))


def _uniform(digest: bytes) -> float:
    return (int.from_bytes(digest[8:16], "big") + 1) / 2**64


def expressions(numbers: Integers) -> tuple[Integers, Integers]:
    """Compute the values of all expressions that use each number once: all binary trees with ordered operands.

    Args:
        numbers: (M, N) M choices of N numbers, with a dtype that can hold the values.

    Returns:
        Values (M, E), with one column for all trees that differ only in the order of the operands of + and *; and the
        number of these trees (E,). Trees are over positions, so equal numbers give equal columns.
    """
    if numbers.shape[1] == 1:
        return numbers, np.ones(1, np.int64)
    values, orders = [], []
    for left, right in _bipartitions(tuple(range(numbers.shape[1]))):
        (a, orders_a), (b, orders_b) = expressions(numbers[:, left]), expressions(numbers[:, right])
        a, b = a[:, :, None], b[:, None, :]
        operand_orders = np.multiply.outer(orders_a, orders_b).ravel()
        for value, factor in ((a + b, 2), (a * b, 2), (a - b, 1), (b - a, 1)):
            values.append(value.reshape(len(numbers), -1))
            orders.append(factor * operand_orders)
    return np.concatenate(values, axis=1), np.concatenate(orders)


def _bipartitions(positions: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield each partition of the positions into two sets once. The set with the first position comes first."""
    others = range(1, len(positions))
    for size in range(len(positions) - 1):
        for subset in combinations(others, size):
            yield (
                (positions[0], *(positions[i] for i in subset)),
                tuple(positions[i] for i in others if i not in subset),
            )
