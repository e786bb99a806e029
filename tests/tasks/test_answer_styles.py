"""The styles of the lab's answers, and the training data of its base policy."""

from collections.abc import Iterator

import numpy as np
import pytest
from judged import judge

from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.countdown import base_pairs, base_policy, problems, styles
from progrpo_cli.tasks.countdown.task import Countdown, prompt_of

TASK = Countdown(48, {"rl": 5, "validation": 5, "test": 5})
KEY = ((2, 3, 5, 7), 28)
PROBLEM = Problem(problems.problem_id(KEY), prompt_of(KEY))
TOKENS = {index: token for token, index in base_pairs.VOCABULARY.items()}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("(7-2)*5+3", "correct"),
        ("product:7-2=5*5=25+3=28", "correct"),
        ("sum:7-2=5*5=25+3=28", "wrong"),  # not a sum
        ("product:7-2=5*5=26+3=28", "wrong"),  # a step with a false value
        ("product:7-2=5*5=25+3=29", "wrong"),
        ("product:7*5=35-2=33-3=30", "wrong"),
        ("product:7*5=35-3=32-2=30;7-2=5*5=25+3=28", "correct"),
        ("product:7*5=36-3=32;7-2=5*5=25+3=28", "correct"),  # only the last try is judged
        ("product:7-2=5*5=25+3=28;7*5=35-3=32-2=30", "wrong"),
        ("product:7*5=35-2=33-3=30-2=28", "wrong"),  # 2 twice
        ("product:7*5=35-7=28", "wrong"),
        ("sum:7+5=12+3=15-2=13", "wrong"),
        ("product:7-2=5*5=25+3=28;7-2=5", "wrong"),
        ("product:7-2=5*5=25+3=28;", "unparseable"),
        ("product:7-2=5*5=25+3", "unparseable"),
        ("product:(7-2)=5*5=25+3=28", "unparseable"),
        ("product:7-2=5;sum:5+3=8", "unparseable"),  # a try cannot begin with a name
        ("product:(7-2)*5+3", "unparseable"),
        ("product:", "unparseable"),
        ("quotient:7-2=5*5=25+3=28", "unparseable"),
        ("7-2=5*5=25+3=28", "unparseable"),
        ("(7-2)*5+3=28", "unparseable"),  # a direct answer is only the expression
        ("product:7-02=5*5=25+3=28", "unparseable"),
        ("product:7-2=5*5=25+3=9999999", "unparseable"),
    ],
)
def test_verdicts_of_steps(text: str, verdict: str) -> None:
    assert judge(TASK, PROBLEM, text) == verdict


def test_the_canonical_form_does_not_depend_on_the_style() -> None:
    texts = ("(7-2)*5+3", "3+5*(7-2)", "product:7-2=5*5=25+3=28", "product:1*1=2;7-2=5*5=25+3=28")
    assert {TASK.canonical(PROBLEM, text) for text in texts} == {"(7-2)*5+3"}
    assert TASK.canonical(PROBLEM, "sum:3-2=1+7=8+5=13") == TASK.canonical(PROBLEM, "7+5-2+3")
    assert TASK.canonical(PROBLEM, "product:7-2=5*5=26+3=28") == "7-2=5*5=26+3=28"  # a false value: left as it is


def completions(batch: base_pairs.Batch) -> Iterator[tuple[Problem, str]]:
    for ids, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True):
        assert set(ids[length:]) <= {base_pairs.VOCABULARY["<pad>"]}
        first, *middle, last = (TOKENS[index] for index in ids[:length])
        assert (first, last) == ("<bos>", "<eos>")
        prompt, _, completion = "".join(middle).partition(":")
        given, target = prompt.split("=")
        key = tuple(map(int, given.split())), int(target)
        assert problems.split_of(key) == "base"
        problem = Problem(problems.problem_id(key), prompt_of(key))
        assert problem.prompt == f"{prompt}:"
        yield problem, completion


@pytest.mark.parametrize("style", styles.STEPWISE)
def test_stepwise_training_answers_are_right_and_from_the_base_split(style: styles.Style) -> None:
    rng = np.random.default_rng(1)
    for count in range(1, base_pairs.MAX_TRIES + 1):
        batch = base_pairs.make_rows(rng, style, 100, count)
        assert len(batch.ids) > 80
        for problem, completion in completions(batch):
            assert judge(TASK, problem, completion) == "correct"
            assert styles.style_of(completion) == style
            tries = styles.split_tries(completion)
            assert all(("*" in text) == (style == "product") for text in tries)
            assert len({text.rpartition("=")[2] for text in tries}) == len(tries) == count
            for wrong in tries[:-1]:
                assert judge(TASK, problem, f"{style}:{wrong}") == "wrong"
                assert styles.expression_of(f"{style}:{wrong}") is not None  # its steps have true values


def test_direct_training_answers_are_right_and_from_the_base_split() -> None:
    shapes = set()
    for problem, completion in completions(base_pairs.make_rows(np.random.default_rng(1), "direct", 300)):
        assert judge(TASK, problem, completion) == "correct"
        assert styles.style_of(completion) == "direct"
        shapes.add("".join("n" if symbol.isdigit() else symbol for symbol in completion).replace("nn", "n"))
    assert len(shapes) > 60  # of 135


def test_only_the_determined_tokens_of_a_wrong_try_are_learned() -> None:
    batch = base_pairs.make_rows(np.random.default_rng(2), "product", 20, tries=2, choice_weight=0.25)
    for ids, weights in zip(batch.ids.tolist(), batch.weights.tolist(), strict=True):
        tokens = [TOKENS[index] for index in ids]
        start, end = tokens.index("product:"), tokens.index(";")
        assert weights[start] == 0.25
        assert set(weights[:start]) == {np.float32(base_pairs.PROMPT_WEIGHT).item()}
        learned = [token if weight else "?" for token, weight in zip(tokens, weights, strict=True)][start + 1 : end]
        assert ["n" if token.isdigit() else token for token in learned] == list("???=n??=n??=n")
        assert set(weights[end : tokens.index("<eos>") + 1]) == {1.0}


def test_the_tokenizer_preserves_all_training_texts() -> None:
    tokenizer = base_policy.make_tokenizer()
    batch = base_pairs.make_rows(np.random.default_rng(3), "sum", 30, tries=3)
    for ids, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True):
        text = tokenizer.decode(ids[1 : length - 1])
        assert tokenizer(text).input_ids == ids[: length - 1]
    assert tokenizer.decode(tokenizer("product:11*12=132").input_ids, skip_special_tokens=True) == "product:11*12=132"


@pytest.mark.parametrize("batch", base_policy.ROWS)
def test_the_choice_weights_set_the_share_of_each_style(batch: int) -> None:
    weights = dict.fromkeys(styles.STYLES, 0.0)
    for part in base_policy.make_batch(np.random.default_rng(4), batch):
        for ids, row in zip(part.ids.tolist(), part.weights.tolist(), strict=True):
            position = ids.index(base_pairs.VOCABULARY[":"]) + 1
            name = TOKENS[ids[position]].removesuffix(":")
            weights[name if name in styles.STEPWISE else "direct"] += row[position]
    shares = {style: weight / sum(weights.values()) for style, weight in weights.items()}
    expected = dict.fromkeys(styles.STEPWISE, base_policy.STYLE_SHARE)
    assert shares == pytest.approx({"direct": 1 - sum(expected.values())} | expected, rel=0.03)  # some rows are dropped
