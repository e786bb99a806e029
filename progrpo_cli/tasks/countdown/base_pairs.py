"""What the lab's base policy learns from: random problems of the ``base`` split, each with an answer to it.

Made by numpy, a batch at a time: in training it must not take time from the policy. Answers are written in the ways of
:mod:`progrpo_cli.tasks.countdown.ways`; of those with steps the first tries are wrong, and the last one is right.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from progrpo_cli.tasks.countdown.problems import HOW_MANY, NUMBERS, TARGETS, all_keys, split_of
from progrpo_cli.tasks.countdown.ways import Way

Integers = npt.NDArray[np.signedinteger[Any]]
Booleans = npt.NDArray[np.bool_]

SPECIAL = ("<pad>", "<bos>", "<eos>")
SYMBOLS = (" ", "+", "-", "*", "(", ")", "=", ":", ";", "sum:", "product:")
VOCABULARY: dict[str, int] = {token: index for index, token in enumerate((*SPECIAL, *map(str, range(100)), *SYMBOLS))}
PIECES = r"sum:|product:|[0-9]{1,2}|."
"""How text is cut into tokens; numbers above 99 are two tokens."""
MAX_TRIES = 2
PROMPT_WEIGHT = 0.2
"""The prompt is learned too: ARM's prompt confidence would otherwise be that of an untrained policy."""
_NOTHING = -1
_ZERO = VOCABULARY["0"]
_PLUS = VOCABULARY["+"]
_OPERATORS = "+-*"
_CANDIDATES = 16
"""Of so many random expressions the wrong tries of a completion are chosen."""
_FAR = 8.0
"""A wrong try whose value is farther from the target by so much is e times as seldom."""


class Batch(NamedTuple):
    """Rows of tokens, right padded."""

    ids: Integers
    """(N, L)"""
    lengths: Integers
    """(N,) Tokens of each row."""
    weights: npt.NDArray[np.float32]
    """(N, L) How much the token counts in the loss: nothing for padding and the wrong tries' expressions."""


def _trees(first: int, last: int) -> list[Any]:
    """All binary trees over the leaves first..last-1: a leaf's position, or (place of the operator, left, right)."""
    if last - first == 1:
        return [first]
    return [
        (cut - 1, left, right)  # the operator between the leaves cut-1 and cut
        for cut in range(first + 1, last)
        for left in _trees(first, cut)
        for right in _trees(cut, last)
    ]


def _tokens(tree: Any, operators: tuple[str, ...]) -> list[int]:
    """Leaves as -2 - position, operators and parentheses as tokens; as few parentheses as the tree needs."""
    if isinstance(tree, int):
        return [-2 - tree]
    place, left, right = tree
    needing = {"+": "", "-": "+-", "*": "+-"}[operators[place]]  # operators that stand in parentheses to its right
    one = _operand(left, operators, needing if operators[place] == "*" else "")
    return [*one, VOCABULARY[operators[place]], *_operand(right, operators, needing)]


def _operand(tree: Any, operators: tuple[str, ...], needing: str) -> list[int]:
    tokens = _tokens(tree, operators)
    if isinstance(tree, int) or operators[tree[0]] not in needing:
        return tokens
    return [VOCABULARY["("], *tokens, VOCABULARY[")"]]


def _value(tree: Any, operators: Integers, leaves: Integers) -> Integers:
    """(M,) The values of one tree with the operators (M, 3) and leaves (M, 4)."""
    if isinstance(tree, int):
        return leaves[:, tree]
    place, left, right = tree
    a, b, which = _value(left, operators, leaves), _value(right, operators, leaves), operators[:, place]
    return np.where(which == 0, a + b, np.where(which == 1, a - b, a * b))


_TREES = _trees(0, HOW_MANY)
_CHOICES = [(index, operators) for index in range(len(_TREES)) for operators in product(range(3), repeat=HOW_MANY - 1)]
_TREE = np.array([index for index, _ in _CHOICES])
_OPERATORS_OF = np.array([operators for _, operators in _CHOICES])
_TEXTS = [_tokens(_TREES[index], tuple(_OPERATORS[o] for o in operators)) for index, operators in _CHOICES]
_WIDTH = max(map(len, _TEXTS))
_TOKENS = np.array([text + [_NOTHING] * (_WIDTH - len(text)) for text in _TEXTS])


def _probability(tree: Any, leaves: int) -> float:
    if isinstance(tree, int):
        return 1.0
    _, left, right = tree
    size = _size(left)
    return _probability(left, size) * _probability(right, leaves - size) / (leaves - 1)


def _size(tree: Any) -> int:
    return 1 if isinstance(tree, int) else _size(tree[1]) + _size(tree[2])


_WEIGHT = np.array([_probability(_TREES[index], HOW_MANY) for index, _ in _CHOICES])


@lru_cache(maxsize=1)
def _is_base() -> Booleans:
    """(13 ** 4, 100) Whether the sorted numbers, read as digits, and the target are a key of the base split."""
    table = np.zeros(((max(NUMBERS) + 1) ** HOW_MANY, len(TARGETS)), bool)
    for chosen, target in all_keys():
        table[_code(np.array(chosen)), target] = split_of((chosen, target)) == "base"
    return table


def _code(numbers: Integers) -> Any:
    return numbers @ (max(NUMBERS) + 1) ** np.arange(HOW_MANY)


def _values(which: Integers, leaves: Integers) -> Integers:
    """(M,) The values of the expressions ``which`` (M,) over leaves (M, 4)."""
    values = np.empty(len(which), np.int64)
    for index, tree in enumerate(_TREES):
        rows = np.flatnonzero(_TREE[which] == index)
        values[rows] = _value(tree, _OPERATORS_OF[which[rows]], leaves[rows])
    return values


def _texts(which: Integers, leaves: Integers) -> Integers:
    """(M, _WIDTH) Their tokens."""
    text = _TOKENS[which]
    place = np.where(text <= -2, -2 - text, 0)
    return np.where(text <= -2, _ZERO + np.take_along_axis(leaves, place, 1), text)


def _apply(operators: Integers, a: Integers, b: Integers) -> Integers:
    return np.where(operators == 0, a + b, np.where(operators == 1, a - b, a * b))


class _Steps(NamedTuple):
    """M rows of steps over the leaves."""

    tokens: Integers
    """(M, columns), e.g. ``7*3=21-5=16*2=32``."""
    values: Integers
    """(M,) The last value; -1 where a value on the way cannot be written with one token."""


_FOLLOWS = np.array([False] + [False, False, True, True] * (HOW_MANY - 1))
"""(columns,) Whether a step's token follows from those before it, so that it is right in a wrong try too."""


def _random_steps(rng: np.random.Generator, way: Way, leaves: Integers) -> _Steps:
    """Operators at random, for a product until one of them multiplies; the first two numbers in falling order."""
    operators = rng.integers(3 if way == "product" else 2, size=(len(leaves), HOW_MANY - 1))
    while way == "product" and len(none := np.flatnonzero((operators != 2).all(1))):
        operators[none] = rng.integers(3, size=(len(none), HOW_MANY - 1))
    leaves = leaves.copy()
    leaves[:, :2] = -np.sort(-leaves[:, :2], axis=1)
    value, possible = leaves[:, 0], np.ones(len(leaves), bool)
    equals = np.full(len(leaves), VOCABULARY["="])
    columns = [_ZERO + value]
    for place in range(1, HOW_MANY):
        value = _apply(operators[:, place - 1], value, leaves[:, place])
        possible &= (value >= 0) & (value < 100)
        columns += [_PLUS + operators[:, place - 1], _ZERO + leaves[:, place], equals, _ZERO + value]
    return _Steps(np.stack(columns, 1), np.where(possible, value, _NOTHING))


def _direct(rng: np.random.Generator, count: int) -> tuple[Integers, Integers, Integers]:
    """(count, 4) numbers, tokens, and (count,) targets: trees as random cuts make them, until the split is base."""
    while True:
        leaves = rng.integers(min(NUMBERS), max(NUMBERS) + 1, (5 * count + 64, HOW_MANY))
        which = rng.choice(len(_WEIGHT), len(leaves), p=_WEIGHT / _WEIGHT.sum())
        values = _values(which, leaves)
        kept = _of_the_base_split(leaves, values)[:count]
        if len(kept) == count:
            return leaves[kept], _texts(which[kept], leaves[kept]), values[kept]


def _stepwise(rng: np.random.Generator, way: Way, count: int) -> tuple[Integers, _Steps, Integers]:
    """As :func:`_direct`, in steps."""
    while True:
        leaves = rng.integers(min(NUMBERS), max(NUMBERS) + 1, (8 * count + 64, HOW_MANY))
        steps = _random_steps(rng, way, leaves)
        kept = _of_the_base_split(leaves, steps.values)[:count]
        if len(kept) == count:
            return leaves[kept], _Steps(steps.tokens[kept], steps.values[kept]), steps.values[kept]


def _of_the_base_split(leaves: Integers, values: Integers) -> Integers:
    """Which rows are."""
    kept: Integers = np.flatnonzero((values >= 0) & (values < len(TARGETS)))
    chosen: Integers = kept[_is_base()[_code(np.sort(leaves[kept], 1)), values[kept]]]
    return chosen


def _wrong(
    rng: np.random.Generator, way: Way, leaves: Integers, targets: Integers, count: int
) -> tuple[Integers, Booleans]:
    """Steps over the same numbers that end at other values, those near the target more often.

    Returns:
        Tokens (M, count, columns), and (M,) whether there are so many.
    """
    order = np.argsort(rng.random((len(leaves) * _CANDIDATES, HOW_MANY)), axis=1)
    steps = _random_steps(rng, way, np.take_along_axis(np.repeat(leaves, _CANDIDATES, 0), order, 1))
    values = steps.values.reshape(len(leaves), _CANDIDATES)
    distance = np.abs(values - targets[:, None])
    allowed = (distance > 0) & (values != _NOTHING)
    score = np.where(allowed, rng.gumbel(size=values.shape) - distance / _FAR, -np.inf)
    tokens = steps.tokens.reshape(len(leaves), _CANDIDATES, -1)
    row, chosen, keep = np.arange(len(leaves)), [], np.ones(len(leaves), bool)
    for _ in range(count):
        best = score.argmax(1)
        keep &= score[row, best] > -np.inf
        chosen.append(tokens[row, best])
        score[values == values[row, best][:, None]] = -np.inf  # no value twice: trying again is trying something else
    return np.stack(chosen, 1), keep


def _column(token: str, count: int) -> Integers:
    return np.full((count, 1), VOCABULARY[token])


def rows(rng: np.random.Generator, way: Way, count: int, tries: int = 1, choice: float = 1.0) -> Batch:
    """Rows of one way with so many tries, about ``count`` of them (a few have no wrong tries to show).

    ``choice`` is the weight of the first token after the prompt, with which the policy chooses the way: rows of a way
    can be many, so that it is learned well, and the way still be chosen seldom.
    """
    keep = np.ones(count, bool)
    completion: list[tuple[Integers, Any]] = []
    if way == "direct":
        leaves, text, targets = _direct(rng, count)
        completion = [(text, 1.0)]
    else:
        leaves, steps, targets = _stepwise(rng, way, count)
        completion = [(_column(f"{way}:", count), 1.0)]
        if tries > 1:
            tokens, keep = _wrong(rng, way, leaves, targets, tries - 1)
            for index in range(tries - 1):
                completion += [(tokens[:, index], _FOLLOWS), (_column(";", count), 1.0)]
        completion += [(steps.tokens, 1.0)]
    numbers = _ZERO + np.sort(leaves, 1)
    prompt = [_column("<bos>", count)]
    for place in range(HOW_MANY):
        prompt += [numbers[:, place : place + 1], _column(" " if place < HOW_MANY - 1 else "=", count)]
    prompt += [_ZERO + targets[:, None], _column(":", count)]
    parts = [*((part, PROMPT_WEIGHT) for part in prompt), *completion, (_column("<eos>", count), 1.0)]
    return _packed(parts, keep, choice, place_of_choice=len(prompt))


def joined(parts: list[Batch]) -> Batch:
    """All rows in one batch."""
    length = max(part.ids.shape[1] for part in parts)

    def widened(table: Any) -> Any:
        return np.pad(table, ((0, 0), (0, length - table.shape[1])))  # the padding token is 0

    return Batch(
        np.concatenate([widened(part.ids) for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([widened(part.weights) for part in parts]),
    )


def _packed(parts: list[tuple[Integers, Any]], keep: Booleans, choice: float, place_of_choice: int) -> Batch:
    """Parts of columns side by side, without what is nothing."""
    wide = np.concatenate([tokens for tokens, _ in parts], axis=1)[keep]
    weights = np.concatenate([np.broadcast_to(np.float32(weight), tokens.shape[1]) for tokens, weight in parts])
    weights[place_of_choice] *= choice
    order = np.argsort(wide == _NOTHING, axis=1, kind="stable")
    lengths = (wide != _NOTHING).sum(1)
    length = int(lengths.max())
    ids = np.take_along_axis(wide, order, 1)[:, :length]
    inside = ids != _NOTHING
    return Batch(np.where(inside, ids, VOCABULARY["<pad>"]), lengths, np.where(inside, weights[order[:, :length]], 0))
