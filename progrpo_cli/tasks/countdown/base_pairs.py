"""Training data of the lab's base policy: random problems of the ``base`` split with answers.

numpy makes a batch at a time, so that training does not wait for data. Answers have the styles of
:mod:`progrpo_cli.tasks.countdown.styles`. In answers with several tries, only the last try is right.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from progrpo_cli.tasks.countdown.problems import NUMBER_COUNT, NUMBERS, TARGETS, all_keys, split_of
from progrpo_cli.tasks.countdown.styles import Style

Integers = npt.NDArray[np.signedinteger[Any]]
Booleans = npt.NDArray[np.bool_]

SPECIAL = ("<pad>", "<bos>", "<eos>")
SYMBOLS = (" ", "+", "-", "*", "(", ")", "=", ":", ";", "sum:", "product:")
VOCABULARY: dict[str, int] = {token: index for index, token in enumerate((*SPECIAL, *map(str, range(100)), *SYMBOLS))}
PIECES = r"sum:|product:|[0-9]{1,2}|."
"""The pattern of a token. A number above 99 is two tokens."""
MAX_TRIES = 2
PROMPT_WEIGHT = 0.2
"""Loss weight of prompt tokens. Without it, ARM's prompt confidence would be that of an untrained policy."""
_NOTHING = -1
_ZERO = VOCABULARY["0"]
_PLUS = VOCABULARY["+"]
_OPERATORS = "+-*"
_CANDIDATES = 16
"""Random expressions from which the wrong tries of a completion are chosen."""
_DISTANCE_SCALE = 8.0
"""The probability of a wrong try falls by a factor e with each such distance of its value from the target."""


class Batch(NamedTuple):
    """Rows of tokens, right padded."""

    ids: Integers
    """(N, L)"""
    lengths: Integers
    """(N,) Number of tokens in each row."""
    weights: npt.NDArray[np.float32]
    """(N, L) Weight of the token in the loss: 0 for padding and for the expressions of wrong tries."""


def _trees(first: int, last: int) -> list[Any]:
    """Return all binary trees over leaves first..last-1: a leaf's position, or (operator's position, left, right)."""
    if last - first == 1:
        return [first]
    return [
        (cut - 1, left, right)  # the operator between the leaves cut-1 and cut
        for cut in range(first + 1, last)
        for left in _trees(first, cut)
        for right in _trees(cut, last)
    ]


def _tokens(tree: Any, operators: tuple[str, ...]) -> list[int]:
    """Return the tokens of a tree with as few parentheses as possible. Leaves are -2 - position."""
    if isinstance(tree, int):
        return [-2 - tree]
    position, left, right = tree
    bracketed = {"+": "", "-": "+-", "*": "+-"}[operators[position]]  # operators that need parentheses on its right
    left_tokens = _operand(left, operators, bracketed if operators[position] == "*" else "")
    return [*left_tokens, VOCABULARY[operators[position]], *_operand(right, operators, bracketed)]


def _operand(tree: Any, operators: tuple[str, ...], bracketed: str) -> list[int]:
    tokens = _tokens(tree, operators)
    if isinstance(tree, int) or operators[tree[0]] not in bracketed:
        return tokens
    return [VOCABULARY["("], *tokens, VOCABULARY[")"]]


def _value(tree: Any, operators: Integers, leaves: Integers) -> Integers:
    """(M,) The values of one tree with operators (M, 3) and leaves (M, 4)."""
    if isinstance(tree, int):
        return leaves[:, tree]
    position, left, right = tree
    return _apply(operators[:, position], _value(left, operators, leaves), _value(right, operators, leaves))


_TREES = _trees(0, NUMBER_COUNT)
# A form of an expression is a tree with operators. It is referred to by its index in this list.
_FORMS = [
    (index, operators) for index in range(len(_TREES)) for operators in product(range(3), repeat=NUMBER_COUNT - 1)
]
_FORM_TREE = np.array([index for index, _ in _FORMS])
_FORM_OPERATORS = np.array([operators for _, operators in _FORMS])
_TEXTS = [_tokens(_TREES[index], tuple(_OPERATORS[o] for o in operators)) for index, operators in _FORMS]
_WIDTH = max(map(len, _TEXTS))
_FORM_TOKENS = np.array([text + [_NOTHING] * (_WIDTH - len(text)) for text in _TEXTS])


def _probability(tree: Any, leaves: int) -> float:
    """Return the probability of a tree over so many leaves, if each cut between leaves is equally likely."""
    if isinstance(tree, int):
        return 1.0
    _, left, right = tree
    size = _size(left)
    return _probability(left, size) * _probability(right, leaves - size) / (leaves - 1)


def _size(tree: Any) -> int:
    return 1 if isinstance(tree, int) else _size(tree[1]) + _size(tree[2])


_FORM_WEIGHT = np.array([_probability(_TREES[index], NUMBER_COUNT) for index, _ in _FORMS])


@lru_cache(maxsize=1)
def _is_base() -> Booleans:
    """(13 ** 4, 100) Whether the sorted numbers (as digits in base 13) and the target are a key of the base split."""
    table = np.zeros(((max(NUMBERS) + 1) ** NUMBER_COUNT, len(TARGETS)), bool)
    for numbers, target in all_keys():
        table[_code(np.array(numbers)), target] = split_of((numbers, target)) == "base"
    return table


def _code(numbers: Integers) -> Any:
    return numbers @ (max(NUMBERS) + 1) ** np.arange(NUMBER_COUNT)


def _values(forms: Integers, leaves: Integers) -> Integers:
    """(M,) The values of expressions with the forms (M,) over leaves (M, 4)."""
    values = np.empty(len(forms), np.int64)
    for index, tree in enumerate(_TREES):
        rows = np.flatnonzero(_FORM_TREE[forms] == index)
        values[rows] = _value(tree, _FORM_OPERATORS[forms[rows]], leaves[rows])
    return values


def _texts(forms: Integers, leaves: Integers) -> Integers:
    """(M, _WIDTH) The tokens of expressions with the forms (M,) over leaves (M, 4)."""
    text = _FORM_TOKENS[forms]
    position = np.where(text <= -2, -2 - text, 0)
    return np.where(text <= -2, _ZERO + np.take_along_axis(leaves, position, 1), text)


def _apply(operators: Integers, a: Integers, b: Integers) -> Integers:
    return np.where(operators == 0, a + b, np.where(operators == 1, a - b, a * b))


class _Steps(NamedTuple):
    """M rows of steps over the leaves."""

    tokens: Integers
    """(M, columns), e.g. ``7*3=21-5=16*2=32``."""
    values: Integers
    """(M,) The last value; -1 if an intermediate value cannot be written with one token."""


_IS_DETERMINED = np.array([False] + [False, False, True, True] * (NUMBER_COUNT - 1))
"""(columns,) Whether the earlier tokens determine this token of the steps. Such tokens are right in a wrong try too."""


def _random_steps(rng: np.random.Generator, style: Style, leaves: Integers) -> _Steps:
    """Draw operators; a product has at least one multiplication. The larger of the first two numbers comes first."""
    operators = rng.integers(3 if style == "product" else 2, size=(len(leaves), NUMBER_COUNT - 1))
    while style == "product" and len(none := np.flatnonzero((operators != 2).all(1))):
        operators[none] = rng.integers(3, size=(len(none), NUMBER_COUNT - 1))
    leaves = leaves.copy()
    leaves[:, :2] = -np.sort(-leaves[:, :2], axis=1)
    value, possible = leaves[:, 0], np.ones(len(leaves), bool)
    equals = np.full(len(leaves), VOCABULARY["="])
    columns = [_ZERO + value]
    for position in range(1, NUMBER_COUNT):
        value = _apply(operators[:, position - 1], value, leaves[:, position])
        possible &= (value >= 0) & (value < 100)
        columns += [_PLUS + operators[:, position - 1], _ZERO + leaves[:, position], equals, _ZERO + value]
    return _Steps(np.stack(columns, 1), np.where(possible, value, _NOTHING))


def _draw_direct(rng: np.random.Generator, count: int) -> tuple[Integers, Integers, Integers]:
    """Draw problems of the base split with direct answers.

    Returns:
        (count, 4) numbers, (count, _WIDTH) tokens and (count,) targets.
    """
    while True:
        leaves = rng.integers(min(NUMBERS), max(NUMBERS) + 1, (5 * count + 64, NUMBER_COUNT))
        forms = rng.choice(len(_FORM_WEIGHT), len(leaves), p=_FORM_WEIGHT / _FORM_WEIGHT.sum())
        values = _values(forms, leaves)
        rows = _base_split_rows(leaves, values)[:count]
        if len(rows) == count:
            return leaves[rows], _texts(forms[rows], leaves[rows]), values[rows]


def _draw_stepwise(rng: np.random.Generator, style: Style, count: int) -> tuple[Integers, _Steps, Integers]:
    """As :func:`_draw_direct`, with answers in steps."""
    while True:
        leaves = rng.integers(min(NUMBERS), max(NUMBERS) + 1, (8 * count + 64, NUMBER_COUNT))
        steps = _random_steps(rng, style, leaves)
        rows = _base_split_rows(leaves, steps.values)[:count]
        if len(rows) == count:
            return leaves[rows], _Steps(steps.tokens[rows], steps.values[rows]), steps.values[rows]


def _base_split_rows(leaves: Integers, values: Integers) -> Integers:
    """Return the indices of the rows whose numbers and value are a key of the base split."""
    possible: Integers = np.flatnonzero((values >= 0) & (values < len(TARGETS)))
    rows: Integers = possible[_is_base()[_code(np.sort(leaves[possible], 1)), values[possible]]]
    return rows


def _draw_wrong_tries(
    rng: np.random.Generator, style: Style, leaves: Integers, targets: Integers, count: int
) -> tuple[Integers, Booleans]:
    """Draw steps over the same numbers that end at other values. Values near the target are more likely.

    Returns:
        (M, count, columns) tokens, and (M,) whether the row has that many wrong tries.
    """
    order = np.argsort(rng.random((len(leaves) * _CANDIDATES, NUMBER_COUNT)), axis=1)
    steps = _random_steps(rng, style, np.take_along_axis(np.repeat(leaves, _CANDIDATES, 0), order, 1))
    values = steps.values.reshape(len(leaves), _CANDIDATES)
    distance = np.abs(values - targets[:, None])
    allowed = (distance > 0) & (values != _NOTHING)
    score = np.where(allowed, rng.gumbel(size=values.shape) - distance / _DISTANCE_SCALE, -np.inf)
    tokens = steps.tokens.reshape(len(leaves), _CANDIDATES, -1)
    row, tries, complete = np.arange(len(leaves)), [], np.ones(len(leaves), bool)
    for _ in range(count):
        best = score.argmax(1)
        complete &= score[row, best] > -np.inf
        tries.append(tokens[row, best])
        score[values == values[row, best][:, None]] = -np.inf  # each try of a row has another value
    return np.stack(tries, 1), complete


def _column(token: str, count: int) -> Integers:
    return np.full((count, 1), VOCABULARY[token])


def make_rows(rng: np.random.Generator, style: Style, count: int, tries: int = 1, choice_weight: float = 1.0) -> Batch:
    """Make about ``count`` rows of one style. Rows without enough wrong tries are left out.

    Args:
        rng: source of random numbers.
        style: the style of the answers.
        count: number of rows to draw.
        tries: tries in each answer; all but the last are wrong.
        choice_weight: loss weight of the first token after the prompt, with which the policy chooses a style. With a
            low weight, a style can have many rows, and so be learned well, and still be chosen seldom.
    """
    complete = np.ones(count, bool)
    completion: list[tuple[Integers, Any]] = []
    if style == "direct":
        leaves, text, targets = _draw_direct(rng, count)
        completion = [(text, 1.0)]
    else:
        leaves, steps, targets = _draw_stepwise(rng, style, count)
        completion = [(_column(f"{style}:", count), 1.0)]
        if tries > 1:
            tokens, complete = _draw_wrong_tries(rng, style, leaves, targets, tries - 1)
            for index in range(tries - 1):
                completion += [(tokens[:, index], _IS_DETERMINED), (_column(";", count), 1.0)]
        completion += [(steps.tokens, 1.0)]
    numbers = _ZERO + np.sort(leaves, 1)
    prompt = [_column("<bos>", count)]
    for position in range(NUMBER_COUNT):
        prompt += [numbers[:, position : position + 1], _column(" " if position < NUMBER_COUNT - 1 else "=", count)]
    prompt += [_ZERO + targets[:, None], _column(":", count)]
    parts = [*((part, PROMPT_WEIGHT) for part in prompt), *completion, (_column("<eos>", count), 1.0)]
    return _pack(parts, complete, choice_weight, choice_column=len(prompt))


def join(parts: list[Batch]) -> Batch:
    """Join batches into one."""
    length = max(part.ids.shape[1] for part in parts)

    def widen(table: Any) -> Any:
        return np.pad(table, ((0, 0), (0, length - table.shape[1])))  # the padding token is 0

    return Batch(
        np.concatenate([widen(part.ids) for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([widen(part.weights) for part in parts]),
    )


def _pack(parts: list[tuple[Integers, Any]], complete: Booleans, choice_weight: float, choice_column: int) -> Batch:
    """Join columns of tokens, given with their weights, and move the gaps in each row to its end as padding."""
    wide = np.concatenate([tokens for tokens, _ in parts], axis=1)[complete]
    weights = np.concatenate([np.broadcast_to(np.float32(weight), tokens.shape[1]) for tokens, weight in parts])
    weights[choice_column] *= choice_weight
    order = np.argsort(wide == _NOTHING, axis=1, kind="stable")
    lengths = (wide != _NOTHING).sum(1)
    length = int(lengths.max())
    ids = np.take_along_axis(wide, order, 1)[:, :length]
    inside = ids != _NOTHING
    return Batch(np.where(inside, ids, VOCABULARY["<pad>"]), lengths, np.where(inside, weights[order[:, :length]], 0))
