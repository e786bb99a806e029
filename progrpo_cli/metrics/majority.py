"""The majority answer of n samples (self-consistency: Wang et al. 2022, arXiv 2203.11171)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def majority_vote_accuracy(answers: Sequence[tuple[Hashable, bool]]) -> float:
    """The chance that a majority vote over the answers of one problem is right.

    Args:
        answers: for each sample with a readable answer its canonical form and whether it is correct.

    Returns:
        1.0 or 0.0; where several answers have the most votes, the share of them that is correct; 0.0 without answers.
    """
    votes = Counter(form for form, _ in answers)
    right = {form for form, correct in answers if correct}
    most = max(votes.values(), default=0)
    winners = [form for form, count in votes.items() if count == most]
    return sum(form in right for form in winners) / len(winners) if winners else 0.0
