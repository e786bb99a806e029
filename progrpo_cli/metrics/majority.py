"""The majority answer of n samples (self-consistency: Wang et al. 2022, arXiv 2203.11171)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def majority_vote_accuracy(answers: Sequence[tuple[Hashable, bool]]) -> float:
    """The probability that a majority vote over the answers to one problem is correct.

    Args:
        answers: the canonical form of each sample's readable answer, and whether it is correct.

    Returns:
        1.0 or 0.0. If several answers are tied, the share of correct ones among them. 0.0 without answers.
    """
    votes = Counter(form for form, _ in answers)
    correct_forms = {form for form, correct in answers if correct}
    most = max(votes.values(), default=0)
    winners = [form for form, count in votes.items() if count == most]
    return sum(form in correct_forms for form in winners) / len(winners) if winners else 0.0
