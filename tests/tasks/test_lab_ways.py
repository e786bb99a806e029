"""The ways in which the lab's answers are written, and the pairs from which its base policy learns them."""

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
        ("sum:7-2=5*5=25+3=28", "wrong"),  # that is no sum
        ("product:7-2=5*5=26+3=28", "wrong"),  # a false step
        ("product:7-2=5*5=25+3=29", "wrong"),
        ("product:7*5=35-2=33-3=30", "wrong"),
        ("product:7*5=35-3=32-2=30;7-2=5*5=25+3=28", "correct"),
        ("product:7*5=36-3=32;7-2=5*5=25+3=28", "correct"),  # nothing before the last try is judged
        ("product:7-2=5*5=25+3=28;7*5=35-3=32-2=30", "wrong"),
        ("product:7*5=35-2=33-3=30-2=28", "wrong"),  # 2 twice
        ("product:7*5=35-7=28", "wrong"),
        ("sum:7+5=12+3=15-2=13", "wrong"),
        ("product:7-2=5*5=25+3=28;7-2=5", "wrong"),
        ("product:7-2=5*5=25+3=28;", "unparseable"),
        ("product:7-2=5*5=25+3", "unparseable"),
        ("product:(7-2)=5*5=25+3=28", "unparseable"),
        ("product:7-2=5;sum:5+3=8", "unparseable"),  # a second name is no try
        ("product:(7-2)*5+3", "unparseable"),
        ("product:", "unparseable"),
        ("quotient:7-2=5*5=25+3=28", "unparseable"),
        ("7-2=5*5=25+3=28", "unparseable"),
        ("(7-2)*5+3=28", "unparseable"),  # direct is the expression alone, as before there were ways
        ("product:7-02=5*5=25+3=28", "unparseable"),
        ("product:7-2=5*5=25+3=9999999", "unparseable"),
    ],
)
def test_verdicts_of_steps(text: str, verdict: str) -> None:
    assert judge(TASK, PROBLEM, text) == verdict


def test_one_idea_has_one_form_however_it_is_written() -> None:
    written = ("(7-2)*5+3", "3+5*(7-2)", "product:7-2=5*5=25+3=28", "product:1*1=2;7-2=5*5=25+3=28")
    assert {TASK.canonical(PROBLEM, text) for text in written} == {"(7-2)*5+3"}
    assert TASK.canonical(PROBLEM, "sum:3-2=1+7=8+5=13") == TASK.canonical(PROBLEM, "7+5-2+3")
    assert TASK.canonical(PROBLEM, "product:7-2=5*5=26+3=28") == "7-2=5*5=26+3=28"  # false steps are no expression


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


@pytest.mark.parametrize("way", styles.STEPWISE)
def test_steps_that_the_base_policy_learns_are_true_and_of_the_base_split(way: styles.Style) -> None:
    rng = np.random.default_rng(1)
    for tries in range(1, base_pairs.MAX_TRIES + 1):
        batch = base_pairs.make_rows(rng, way, 100, tries)
        assert len(batch.ids) > 80
        for problem, completion in completions(batch):
            assert judge(TASK, problem, completion) == "correct"
            assert styles.style_of(completion) == way
            written = styles.split_tries(completion)
            assert all(("*" in text) == (way == "product") for text in written)
            assert len({text.rpartition("=")[2] for text in written}) == len(written) == tries
            for wrong in written[:-1]:
                assert judge(TASK, problem, f"{way}:{wrong}") == "wrong"
                assert styles.expression_of(f"{way}:{wrong}") is not None  # true steps to another value


def test_expressions_that_the_base_policy_learns_are_right_and_of_the_base_split() -> None:
    seen = set()
    for problem, completion in completions(base_pairs.make_rows(np.random.default_rng(1), "direct", 300)):
        assert judge(TASK, problem, completion) == "correct"
        assert styles.style_of(completion) == "direct"
        seen.add("".join("n" if symbol.isdigit() else symbol for symbol in completion).replace("nn", "n"))
    assert len(seen) > 60  # of 135 trees


def test_of_a_wrong_try_only_what_follows_from_it_is_learned() -> None:
    batch = base_pairs.make_rows(np.random.default_rng(2), "product", 20, tries=2, choice_weight=0.25)
    for ids, weights in zip(batch.ids.tolist(), batch.weights.tolist(), strict=True):
        tokens = [TOKENS[index] for index in ids]
        start, end = tokens.index("product:"), tokens.index(";")
        assert weights[start] == 0.25
        assert set(weights[:start]) == {np.float32(base_pairs.PROMPT_WEIGHT).item()}
        learned = [token if weight else "?" for token, weight in zip(tokens, weights, strict=True)][start + 1 : end]
        assert ["n" if token.isdigit() else token for token in learned] == list("???=n??=n??=n")
        assert set(weights[end : tokens.index("<eos>") + 1]) == {1.0}


def test_every_text_of_the_base_policy_goes_through_its_tokenizer_unchanged() -> None:
    tokenizer = base_policy.make_tokenizer()
    batch = base_pairs.make_rows(np.random.default_rng(3), "sum", 30, tries=3)
    for ids, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True):
        text = tokenizer.decode(ids[1 : length - 1])
        assert tokenizer(text).input_ids == ids[: length - 1]
    assert tokenizer.decode(tokenizer("product:11*12=132").input_ids, skip_special_tokens=True) == "product:11*12=132"


@pytest.mark.parametrize("batch", base_policy.ROWS)
def test_the_share_of_each_way_is_set_by_the_weights_of_the_choice(batch: int) -> None:
    weights = dict.fromkeys(styles.STYLES, 0.0)
    for part in base_policy.make_batch(np.random.default_rng(4), batch):
        for ids, row in zip(part.ids.tolist(), part.weights.tolist(), strict=True):
            place = ids.index(base_pairs.VOCABULARY[":"]) + 1
            named = TOKENS[ids[place]].removesuffix(":")
            weights[named if named in styles.STEPWISE else "direct"] += row[place]
    shares = {way: weight / sum(weights.values()) for way, weight in weights.items()}
    wanted = dict.fromkeys(styles.STEPWISE, base_policy.SHARE)
    assert shares == pytest.approx({"direct": 1 - sum(wanted.values())} | wanted, rel=0.03)  # some rows are left out
