"""Which evaluations may stand in one column: of a task and split only those that were measured alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from progrpo_cli.config.hashing import digest
from progrpo_cli.errors import WorkError
from progrpo_cli.reporting.evaluations import CONDITIONS, Evaluation
from progrpo_cli.reporting.found import Found

_NAMES = {"top_p": "top-p", "max_new_tokens": "token limit", "task_version": "task version", "problem_ids": "problems"}


def choose(evaluations: Sequence[Evaluation], found: Found, *, mixed: bool) -> list[Evaluation]:
    """The evaluations to report: one for each policy, task, split and way of measuring, the newest.

    Where a task and split were measured in several ways, the way that all policies share is reported alone; of
    several such ways that of the most samples.

    Args:
        mixed: report all of them where there is none, side by side.

    Raises:
        WorkError: there is none, and ``mixed`` is false; the message names the runs.
    """
    chosen: list[Evaluation] = []
    for task, split in sorted({(e.task, e.split) for e in evaluations}):
        column = _newest([e for e in evaluations if (e.task, e.split) == (task, split)], found)
        ways: dict[tuple[object, ...], list[Evaluation]] = {}
        for e in column:
            ways.setdefault(e.conditions, []).append(e)
        policies = {e.run.policy for e in column}
        shared = [of_way for of_way in ways.values() if {e.run.policy for e in of_way} == policies]
        if len(ways) == 1:
            chosen.extend(column)
        elif shared:
            best = max(shared, key=lambda of_way: (of_way[0].n, max(e.scored_at for e in of_way)))
            left = [e for e in column if e.conditions != best[0].conditions]
            way = describe(best[0], varied(column))
            found.note(
                f"{task} ({split}): reported as measured in all runs ({way}); left out, measured "
                f"otherwise: {_some([f'{e.run.record.name}: {e.key}' for e in left])}"
            )
            chosen.extend(best)
        elif mixed:
            chosen.extend(column)
        else:
            raise WorkError(_complaint(task, split, column))
    return chosen


def varied(evaluations: Sequence[Evaluation]) -> dict[str, set[object]]:
    """The conditions in which evaluations of a task and split differ, each with its values."""
    values: dict[str, set[object]] = {name: {getattr(e, name) for e in evaluations} for name in CONDITIONS}
    return {name: of_name for name, of_name in values.items() if len(of_name) > 1}


def describe(evaluation: Evaluation, differing: Mapping[str, Collection[object]]) -> str:
    """An evaluation's values of the conditions that :func:`varied` found, e.g. ``n = 64, temperature = 1``."""
    return ", ".join(_described(name, getattr(evaluation, name), of_name) for name, of_name in differing.items())


def _complaint(task: str, split: str, column: Sequence[Evaluation]) -> str:
    condition = next(name for name in CONDITIONS if len({getattr(e, name) for e in column}) > 1)
    runs_with: dict[object, list[str]] = {}
    for e in column:
        runs_with.setdefault(getattr(e, condition), []).append(e.run.record.name)
    described = "; ".join(f"{_briefly(value, runs_with)} in {_some(names)}" for value, names in runs_with.items())
    return (
        f"{task} ({split}): evaluations with different {_NAMES.get(condition, condition)} cannot share a column: "
        f"{described}; evaluate them alike, name the runs to report, or show them with footnotes (--mixed)"
    )


def _described(name: str, value: object, others: Collection[object]) -> str:
    brief = _briefly(value, others)
    return brief if isinstance(value, tuple) else f"{_NAMES.get(name, name)} = {brief}"


def _briefly(value: object, others: Collection[object]) -> str:
    """Problems by their number, and by a digest of their ids where ``others`` are as many."""
    if isinstance(value, tuple):
        as_many = sum(isinstance(other, tuple) and len(other) == len(value) for other in others)
        return f"{len(value)} problems" + (f" {digest(value)[:6]}" if as_many > 1 else "")
    return "unknown" if value is None else str(value)


def _some(names: list[str]) -> str:
    unique = sorted(set(names))
    return ", ".join(unique[:4]) + (f" and {len(unique) - 4} more" if len(unique) > 4 else "")


def _newest(evaluations: Sequence[Evaluation], found: Found) -> list[Evaluation]:
    """Pooling a policy with itself would count a seed twice."""
    kept: dict[tuple[object, ...], Evaluation] = {}
    for e in sorted(evaluations, key=lambda e: (e.scored_at, e.run.record.started, e.run.record.id, e.key)):
        same = (e.run.policy, e.conditions)
        older = kept.get(same)
        if older is not None:
            found.note(
                f"{older.run.record.name}: {older.key} ({older.split}) left out; the same configuration, seed and "
                f"sampling were measured again in {e.run.record.name}: {e.key}"
            )
        kept[same] = e
    return list(kept.values())
