"""Check whether results in the ledger are comparable, by the rule of ``evaluation/scores_file.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from progrpo_cli.evaluation.scores_file import ComparableKey, describe_differences

Result = Mapping[str, Any]


def differences_between(one: Sequence[Result], other: Sequence[Result] = ()) -> str:
    """Describe why some result is not comparable with the first one; empty if all are comparable.

    Results of earlier versions have no key and count as comparable.
    """
    first, *rest = [*one, *other]
    for result in rest:
        key, other_key = _key(first), _key(result)
        if key is not None and other_key is not None:
            description = describe_differences(other_key, key, _count_problems(result), _count_problems(first))
            if description:
                return description
    return ""


def comparable_groups(results: Mapping[str, Sequence[Result]]) -> list[list[str]]:
    """Group trials whose results are comparable; ``results`` has the results of each trial's seeds, by config hash."""
    groups: list[list[str]] = []
    for name, trial_results in results.items():
        group = next((group for group in groups if not differences_between(results[group[0]], trial_results)), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return groups


def _key(result: Result) -> ComparableKey | None:
    key = result.get("comparable_key")
    return None if key is None else ComparableKey.model_validate(key)


def _count_problems(result: Result) -> int:
    return max((len(values) for values in result["per_problem"].values()), default=0)
