import itertools
import random
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import judge

from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.countdown import expression, problems
from progrpo_cli.tasks.countdown.task import Countdown, prompt_of, question_of


class Number(NamedTuple):
    value: int


class Operation(NamedTuple):
    operator: str
    left: "Expression"
    right: "Expression"


Expression = Number | Operation
SPLITS = ("base", "rl", "validation", "test")
TASK = Countdown(24, {"rl": None, "validation": 50, "test": 60})
PROBLEM = Problem(problems.problem_id(((3, 5, 7, 12), 24)), prompt_of(((3, 5, 7, 12), 24)))

trees = st.recursive(
    st.integers(1, 12).map(Number),
    lambda inner: st.builds(Operation, st.sampled_from("+-*"), inner, inner),
    max_leaves=6,
)


def test_the_splits_are_disjoint_by_key_and_cover_all_problems() -> None:
    keys = {split: set(problems.keys_of(split)) for split in SPLITS}
    assert sum(map(len, keys.values())) == len(set().union(*keys.values())) == len(problems.all_keys())
    assert min(map(len, keys.values())) > 5000
    assert {problems.split_of(key) for key in keys["test"]} == {"test"}


def test_a_prefix_of_a_split_never_changes() -> None:
    assert [p.id for p in TASK.problems("validation")] == [
        problems.problem_id(key) for key in problems.keys_of("validation")[:50]
    ]
    assert len(TASK.problems("test")) == 60
    assert len(TASK.problems("rl")) == len(problems.keys_of("rl"))


def test_expressions_agree_with_an_enumeration() -> None:
    """The enumeration evaluates every order of the numbers, operator and shape of tree with Python."""
    chosen = (2, 3, 7, 11)
    shapes = [
        "(({}{}{}){}{}){}{}",
        "({}{}({}{}{})){}{}",
        "({}{}{}){}({}{}{})",
        "{}{}(({}{}{}){}{})",
        "{}{}({}{}({}{}{}))",
    ]
    expected = Counter(
        eval(shape.format(a, o, b, p, c, q, d))
        for a, b, c, d in itertools.permutations(chosen)
        for o, p, q in itertools.product("+-*", repeat=3)
        for shape in shapes
    )
    values, orders = problems.expressions(np.array([chosen, (1, 1, 1, 1)]))
    counts: Counter[int] = Counter()
    for value, count in zip(values[0].tolist(), orders.tolist(), strict=True):
        counts[value] += count
    assert counts == expected
    assert problems.solution_counts()[chosen, 24] == expected[24]


def test_the_first_problems_of_a_split_have_more_expressions() -> None:
    keys = problems.keys_of("test")
    counts = [problems.solution_counts()[key] for key in keys]
    assert sum(counts[:300]) / 300 > 1.5 * sum(counts) / len(counts)


def value(tree: Expression) -> int:
    if isinstance(tree, Number):
        return tree.value
    left, right = value(tree.left), value(tree.right)
    return {"+": left + right, "-": left - right, "*": left * right}[tree.operator]


def render(tree: Expression) -> str:
    """Write a tree with as few parentheses as possible."""
    if isinstance(tree, Number):
        return str(tree.value)
    left, right = render(tree.left), render(tree.right)
    is_sum = {"+": True, "-": True, "*": False}
    if isinstance(tree.left, Operation) and tree.operator == "*" and is_sum[tree.left.operator]:
        left = f"({left})"
    if isinstance(tree.right, Operation) and tree.operator in "-*" and is_sum[tree.right.operator]:
        right = f"({right})"
    return f"{left}{tree.operator}{right}"


def leaves(tree: Expression) -> list[int]:
    return [tree.value] if isinstance(tree, Number) else leaves(tree.left) + leaves(tree.right)


@given(trees)
def test_parsing_agrees_with_python(tree: Expression) -> None:
    text = render(tree)
    parsed = expression.parse(text)
    assert parsed.value == value(tree) == eval(text)
    assert parsed.numbers == tuple(sorted(leaves(tree)))


@given(trees, st.randoms(use_true_random=False))
def test_the_canonical_form_ignores_order_and_parentheses_and_keeps_the_value(
    tree: Expression, rng: random.Random
) -> None:
    def shuffled(node: Expression) -> Expression:
        if isinstance(node, Number):
            return node
        left, right = shuffled(node.left), shuffled(node.right)
        if node.operator != "-" and rng.random() < 0.5:
            left, right = right, left
        return Operation(node.operator, left, right)

    def bracketed(node: Expression) -> str:
        if isinstance(node, Number):
            return str(node.value)
        return f"({bracketed(node.left)}{node.operator}{bracketed(node.right)})"

    form = expression.parse(render(tree)).canonical
    assert expression.parse(render(shuffled(tree))).canonical == form
    assert expression.parse(bracketed(tree)).canonical == form
    if not form.startswith("-"):
        assert eval(form) == value(tree)


def signed_terms(tree: Expression, sign: int) -> list[tuple[int, str]]:
    if isinstance(tree, Operation) and tree.operator != "*":
        right = sign if tree.operator == "+" else -sign
        return signed_terms(tree.left, sign) + signed_terms(tree.right, right)
    return [(sign, "*".join(sorted(factors(tree))))]


def factors(tree: Expression) -> list[str]:
    if isinstance(tree, Operation) and tree.operator == "*":
        return factors(tree.left) + factors(tree.right)
    return [str(tree.value) if isinstance(tree, Number) else f"({flattened(tree)})"]


def flattened(tree: Expression) -> str:
    terms = sorted(signed_terms(tree, 1), key=lambda term: (term[0] < 0, term[1]))
    return "".join("-+"[sign > 0] + text for sign, text in terms).removeprefix("+")


@given(trees)
def test_the_canonical_form_is_the_flattened_and_sorted_tree(tree: Expression) -> None:
    assert expression.parse(render(tree)).canonical == flattened(tree)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1+2", "2+1", True),
        ("4-(3-2)", "4+2-3", True),
        ("(1+2)*3", "3*(2+1)", True),
        ("2*3*4", "4*(2*3)", True),
        ("(1-2)*(3-4)", "(2-1)*(4-3)", False),
        ("2*3+4", "2+3*4", False),
    ],
)
def test_canonical_examples(one: str, other: str, same: bool) -> None:
    forms = {expression.parse(text).canonical for text in (one, other)}
    assert (len(forms) == 1) is same


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("12*7-5*3", "wrong"),
        ("(12-7)*3+5", "wrong"),
        ("(7-5)*12*3", "wrong"),
        ("12+7+5", "wrong"),
        ("12*(7-5)", "wrong"),  # 24, but without the 3
        ("(5+7-12)*3+24", "wrong"),  # 24, but with a number that is not given
        ("12*(3+5-7)+0", "wrong"),
        ("3*7-5+12-4", "wrong"),
        ("3+5+7+12-3", "wrong"),
        ("(12-(7-5))*3", "wrong"),
        ("", "unparseable"),
        ("12*", "unparseable"),
        ("(12*7", "unparseable"),
        ("12 7", "unparseable"),
        ("-3+12", "unparseable"),
        ("012+7", "unparseable"),
        ("3²", "unparseable"),
        ("12/7", "unparseable"),
        ("9999999", "unparseable"),
        ("(" * 100 + "1" + ")" * 99, "unparseable"),
        ("1+" * 500 + "1", "unparseable"),
        ("__import__('os')", "unparseable"),
    ],
)
def test_verdicts(text: str, verdict: str) -> None:
    assert judge(TASK, PROBLEM, text) == verdict


def test_a_correct_expression_is_correct_and_an_unfinished_one_truncated() -> None:
    solution = "(12-3-7)*5"
    key = ((3, 5, 7, 12), 10)
    problem = Problem(problems.problem_id(key), prompt_of(key))
    assert problem.prompt == "3 5 7 12=10:"
    assert judge(TASK, problem, solution) == "correct"
    assert judge(TASK, problem, " ( 12 - 3 - 7 ) * 5 ") == "correct"
    assert judge(TASK, problem, solution, finished=False) == "truncated"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("We try.\n(12-3-7)*5 = 10\n", "correct"),
        ("(12-3-7)*5", "correct"),
        ("(12-3-7)*5\nThat is it.", "unparseable"),
        ("", "unparseable"),
    ],
)
def test_in_chat_the_answer_is_the_last_line(text: str, verdict: str) -> None:
    task = Countdown(256, {"rl": None, "validation": 5, "test": 5}, chat=True)
    key = ((3, 5, 7, 12), 10)
    assert "3, 5, 7 and 12" in question_of(key)
    assert judge(task, Problem(problems.problem_id(key), question_of(key)), text) == verdict
