"""Scores of hand-written samples."""

import pytest

from progrpo_cli.config.compose import compose
from progrpo_cli.evaluation.scores import score
from progrpo_cli.tasks.base import Problem
from progrpo_cli.tasks.registry import make_task

ONE, TWO = Problem("1_2_3_4_10", "1 2 3 4=10:"), Problem("1_1_1_1_4", "1 1 1 1=4:")


def sample_line(problem: Problem, text: str, verdict: str, **changes: object) -> dict:
    return {"problem_id": problem.id, "text": text, "verdict": verdict, "tokens": 8, "entropy": 0.5, **changes}


def sample_lines(**changes: object) -> list[dict]:
    wrong = [sample_line(ONE, "1*2*3*4", "wrong", tokens=16, **changes)] * 2
    right = [sample_line(ONE, "1+2+3+4", "correct", **changes), sample_line(ONE, "4+3+2+1", "correct", **changes)]
    unread = [sample_line(TWO, "1+", "unparseable", **changes)] * 3 + [sample_line(TWO, "1", "truncated", **changes)]
    return [*wrong, *right, *unread]


def score_samples(samples: list[dict]) -> dict:
    return score(samples, [ONE, TWO], make_task(compose().task), n=4, ks=[1, 2])


def test_coverage_length_and_majority() -> None:
    scores = score_samples(sample_lines())
    assert scores["counts"] == [[ONE.id, 4, 2], [TWO.id, 4, 0]]
    assert scores["pass@1"]["value"] == 0.25
    assert scores["coverage"]["value"] == 0.5
    assert scores["response_length"]["value"] == 10  # (16 + 16 + 8 + 8) / 4 and 8
    assert (
        scores["distinct_correct"]["value"] == 0.5
    )  # the two correct ones differ only in order; the other problem has none
    assert scores["beyond_majority"]["value"] == 0.5  # one covered problem, on which two answers tie
    for metric in ("pass@1", "pass@2", "coverage", "beyond_majority"):
        assert 0 <= scores[metric]["low"] <= scores[metric]["value"] <= scores[metric]["high"] <= 1
        assert scores[metric]["low"] < scores[metric]["high"]  # two problems leave uncertainty


def test_a_wrong_majority_on_a_covered_problem() -> None:
    samples = sample_lines()
    samples[2] = sample_line(ONE, "1*2*3*4", "wrong")
    assert score_samples(samples)["beyond_majority"]["value"] == 1.0


def test_no_solved_problem_gives_no_majority_and_a_wide_interval() -> None:
    samples = [sample_line(problem, "1", "wrong") for problem in (ONE, TWO) for _ in range(4)]
    scores = score_samples(samples)
    assert scores["beyond_majority"] is None
    assert scores["coverage"]["value"] == 0
    assert scores["coverage"]["high"] > 0.5


def test_an_inexact_entropy_is_written_as_entropy_topk_with_bounds() -> None:
    scores = score_samples(sample_lines(entropy=None, entropy_topk=0.4, missing_mass=0.01, entropy_at_most=0.6))
    assert scores["entropy"] is None
    assert scores["entropy_topk"]["value"] == pytest.approx(0.4)
    assert scores["entropy_topk"]["at_most"] == pytest.approx(0.6)
    assert scores["entropy_topk"]["missing_mass"] == pytest.approx(0.01)
    assert scores["per_problem"]["entropy"] == [None, None]
