import pytest

from progrpo_cli.metrics.majority import majority_vote_accuracy


@pytest.mark.parametrize(
    ("answers", "chance"),
    [
        ([], 0.0),
        ([("a", True)], 1.0),
        ([("a", True), ("b", False), ("b", False)], 0.0),
        ([("a", True), ("b", False), ("a", True)], 1.0),
        ([("a", True), ("b", False)], 0.5),
        ([("a", True), ("b", True), ("c", False)], 2 / 3),  # different right answers do not vote together
    ],
)
def test_the_commonest_answer_decides_and_ties_are_shared(answers, chance):
    assert majority_vote_accuracy(answers) == pytest.approx(chance)
