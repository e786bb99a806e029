"""What the lab's base policy learns from: random problems of the ``base`` split, each with an expression for it."""

from __future__ import annotations

import random
from typing import NamedTuple

from progrpo_cli.tasks.countdown.problems import HOW_MANY, NUMBERS, TARGETS, Key, split_of


class Number(NamedTuple):
    """A leaf of a tree."""

    value: int


class Operation(NamedTuple):
    """An operator with its operands."""

    operator: str
    left: Expression
    right: Expression


Expression = Number | Operation


def random_pair(rng: random.Random) -> tuple[Key, str]:
    """A random key of the base split and a random expression that solves it, with as few parentheses as it needs."""
    while True:
        chosen = [rng.choice(NUMBERS) for _ in range(HOW_MANY)]
        tree = _random_tree(chosen, rng)
        target = value(tree)
        if target in TARGETS and split_of((tuple(sorted(chosen)), target)) == "base":
            return (tuple(sorted(chosen)), target), render(tree)


def _random_tree(leaves: list[int], rng: random.Random) -> Expression:
    if len(leaves) == 1:
        return Number(leaves[0])
    cut = rng.randrange(1, len(leaves))
    return Operation(rng.choice("+-*"), _random_tree(leaves[:cut], rng), _random_tree(leaves[cut:], rng))


def value(tree: Expression) -> int:
    """The exact integer value."""
    if isinstance(tree, Number):
        return tree.value
    left, right = value(tree.left), value(tree.right)
    if tree.operator == "+":
        return left + right
    return left - right if tree.operator == "-" else left * right


def render(tree: Expression) -> str:
    """The tree as text, with as few parentheses as it needs."""
    if isinstance(tree, Number):
        return str(tree.value)
    left, right = render(tree.left), render(tree.right)
    is_sum = {"+": True, "-": True, "*": False}
    if isinstance(tree.left, Operation) and tree.operator == "*" and is_sum[tree.left.operator]:
        left = f"({left})"
    if isinstance(tree.right, Operation) and (
        (tree.operator == "*" and is_sum[tree.right.operator]) or (tree.operator == "-" and is_sum[tree.right.operator])
    ):
        right = f"({right})"
    return f"{left}{tree.operator}{right}"
