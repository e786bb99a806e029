"""Whether results of the ledger may be set against each other, by the rule of ``evaluation/scores_file.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from progrpo_cli.evaluation.scores_file import ComparableKey, describe_differences

Result = Mapping[str, Any]


def differences_between(one: Sequence[Result], other: Sequence[Result] = ()) -> str:
    """In what some of the results were measured otherwise than the first, in words; empty: in nothing they say."""
    first, *rest = [*one, *other]
    for result in rest:
        ours, theirs = _key(first), _key(result)
        if ours is not None and theirs is not None:
            said = describe_differences(theirs, ours, _problems(result), _problems(first))
            if said:
                return said
    return ""


def comparable_groups(results: Mapping[str, Sequence[Result]]) -> list[list[str]]:
    """The trials (each with the results of its seeds) by what was measured alike."""
    found: list[list[str]] = []
    for name, of_trial in results.items():
        same = next((group for group in found if not differences_between(results[group[0]], of_trial)), None)
        if same is None:
            found.append([name])
        else:
            same.append(name)
    return found


def _key(result: Result) -> ComparableKey | None:
    """None: results of earlier versions do not say it."""
    said = result.get("comparable_key")
    return None if said is None else ComparableKey.model_validate(said)


def _problems(result: Result) -> int:
    return max((len(values) for values in result["per_problem"].values()), default=0)
