"""What scores.json says of samples that are written by hand."""

import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.evaluation.scores import score
from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.registry import make_task

ONE, TWO = Problem("1_2_3_4_10", "1 2 3 4=10:"), Problem("1_1_1_1_4", "1 1 1 1=4:")


def line(problem: Problem, text: str, verdict: str, **changes: object) -> dict:
    return {"problem_id": problem.id, "text": text, "verdict": verdict, "tokens": 8, "entropy": 0.5, **changes}


def lines(**changes: object) -> list[dict]:
    wrong = [line(ONE, "1*2*3*4", "wrong", tokens=16, **changes)] * 2
    right = [line(ONE, "1+2+3+4", "correct", **changes), line(ONE, "4+3+2+1", "correct", **changes)]
    unread = [line(TWO, "1+", "unparseable", **changes)] * 3 + [line(TWO, "1", "truncated", **changes)]
    return [*wrong, *right, *unread]


def scored(samples: list[dict]) -> dict:
    return score(samples, [ONE, TWO], make_task(compose().task), n=4, ks=[1, 2])


def test_coverage_length_and_the_majority() -> None:
    scores = scored(lines())
    assert scores["counts"] == [[ONE.id, 4, 2], [TWO.id, 4, 0]]
    assert scores["pass@1"]["value"] == 0.25
    assert scores["coverage"]["value"] == 0.5
    assert scores["response_length"]["value"] == 10  # (16 + 16 + 8 + 8) / 4 and 8
    assert scores["distinct_correct"]["value"] == 0.5  # the two correct ones are one, but for order; and none
    assert scores["beyond_majority"]["value"] == 0.5  # one covered problem, on which two answers tie
    for metric in ("pass@1", "pass@2", "coverage", "beyond_majority"):
        assert 0 <= scores[metric]["low"] <= scores[metric]["value"] <= scores[metric]["high"] <= 1
        assert scores[metric]["low"] < scores[metric]["high"]  # nobody is certain after two problems


def test_a_majority_that_is_wrong_hides_a_covered_problem() -> None:
    samples = lines()
    samples[2] = line(ONE, "1*2*3*4", "wrong")
    assert scored(samples)["beyond_majority"]["value"] == 1.0


def test_nothing_solved_has_no_majority_and_no_certainty() -> None:
    samples = [line(problem, "1", "wrong") for problem in (ONE, TWO) for _ in range(4)]
    scores = scored(samples)
    assert scores["beyond_majority"] is None
    assert scores["coverage"]["value"] == 0
    assert scores["coverage"]["high"] > 0.5


def test_an_entropy_that_is_not_exact_has_another_name_and_its_bound() -> None:
    scores = scored(lines(entropy=None, entropy_topk=0.4, missing_mass=0.01, entropy_at_most=0.6))
    assert scores["entropy"] is None
    assert scores["entropy_topk"]["value"] == pytest.approx(0.4)
    assert scores["entropy_topk"]["at_most"] == pytest.approx(0.6)
    assert scores["entropy_topk"]["missing_mass"] == pytest.approx(0.01)
    assert scores["per_problem"]["entropy"] == [None, None]
