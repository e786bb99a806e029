"""Select evaluations that may be compared: for each task and split those that were measured in the same way.

The rule is that of ``evaluation/scores_file.py``. Different sampling gives different rows of one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from progrpo_cli.errors import WorkError
from progrpo_cli.evaluation.scores_file import (
    DIGESTS,
    ComparableKey,
    Measure,
    Sampling,
    describe_differences,
    describe_field,
    describe_missing_fields,
)
from progrpo_cli.reporting.reading.evaluations import Evaluation
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns


@dataclass(frozen=True)
class ComparableEvaluations:
    """Evaluations of a task and split that may be pooled and subtracted, one per policy."""

    key: ComparableKey
    """The common key; fields that only some evaluations record are filled in."""
    evaluations: list[Evaluation]
    footnote: str
    """How they were measured if others in the report were measured differently, e.g. ``back end vllm``; else empty."""
    sampled: str
    """How they were sampled if others were sampled differently, e.g. ``temperature 0.7``; else empty."""


@dataclass(frozen=True)
class _MeasureGroup:
    """Evaluations of a task and split with matching measures, whatever their sampling."""

    measure: Measure
    evaluations: list[Evaluation]

    @property
    def policies(self) -> set[tuple[object, ...]]:
        return {e.run.policy for e in self.evaluations}

    @property
    def problems(self) -> int:
        return len(self.evaluations[0].problem_ids)

    @property
    def rank(self) -> tuple[object, ...]:
        """Preference for the report: most policies first, then most information."""
        return (
            len(self.policies),
            self.problems,
            self.measure.judge_version,
            max(e.n for e in self.evaluations),
            self.measure.backend == "hf",
            self.measure.dtype == "float32",
            max(e.scored_at for e in self.evaluations),
        )


def choose_evaluations(
    evaluations: Sequence[Evaluation], loaded: LoadedRuns, *, mixed: bool
) -> list[ComparableEvaluations]:
    """Select the evaluations to report, grouped by what may be pooled and subtracted.

    If a task and split was measured in several ways, the way with most policies is reported (then the one with most
    problems), and a note names the evaluations that are left out.

    Args:
        mixed: report all ways side by side, without comparing them.

    Raises:
        WorkError: several ways have equally many policies and problems, and ``mixed`` is false. The message names the
            runs.
    """
    chosen: list[ComparableEvaluations] = []
    for task, split in sorted({(e.task, e.split) for e in evaluations}):
        candidates = [e for e in evaluations if (e.task, e.split) == (task, split)]
        groups = _group_by_measure(candidates)
        if not mixed:
            _note_left_out(task, split, groups[0], candidates, loaded)
            groups = groups[:1]
        for group in groups:
            chosen.extend(_group_by_sampling(group, groups, loaded))
    return chosen


def footnotes(evaluations: Sequence[Evaluation]) -> list[str]:
    """Sentences about the measures of evaluations of one task and split that are in one table."""
    first = evaluations[0]
    where = f"{first.task} ({first.split})"
    sentences = []
    if missing := describe_missing_fields(e.measure for e in evaluations):
        count = sum(bool(e.measure.missing_fields()) for e in evaluations)
        sentences.append(
            f"{where}: {count} of {len(evaluations)} scores, of earlier versions, lack some of {missing}; missing "
            "values are assumed to be equal."
        )
    versions = {f"judge {e.measure.judge_version}" for e in evaluations if e.measure.judge_version > 1}
    for key, template in (("method.version", "method {}"), ("task.judge_version", "training's judge for {}")):
        values = [(e.run.method, e.run.settings.get(key, 1)) for e in evaluations if not e.run.is_model]
        versions |= {f"{template.format(method)} {version}" for method, version in values if version != 1}
    if versions:
        sentences.append(f"{where}: versions above 1: {', '.join(sorted(versions))}.")
    return sentences


def _group_by_measure(evaluations: Sequence[Evaluation]) -> list[_MeasureGroup]:
    """Put every evaluation into one group; the group to report comes first."""
    remaining, groups = list(evaluations), []
    while remaining:
        groups.append(max(_candidate_groups(remaining), key=lambda group: group.rank))
        taken = {id(e) for e in groups[-1].evaluations}
        remaining = [e for e in remaining if id(e) not in taken]
    return groups


def _candidate_groups(evaluations: Sequence[Evaluation]) -> list[_MeasureGroup]:
    """For each measure the group of evaluations that match it.

    A field that a measure does not record matches any value, so an evaluation may be in several groups; but no two
    evaluations of a group differ in a field that both record.
    """
    measures: dict[Measure, list[Evaluation]] = {}
    for e in evaluations:
        measures.setdefault(e.measure, []).append(e)
    commonest_first = sorted(measures, key=lambda measure: -len(measures[measure]))
    groups = []
    for first in commonest_first:
        measure, members = first, list(measures[first])
        for other in commonest_first:
            if other != first and not measure.differing_fields(other):
                measure = measure.merged(other)
                members += measures[other]
        groups.append(_MeasureGroup(measure, members))
    return groups


def _note_left_out(
    task: str, split: str, reported: _MeasureGroup, evaluations: Sequence[Evaluation], loaded: LoadedRuns
) -> None:
    rivals = [
        other
        for other in _candidate_groups(evaluations)
        if (len(other.policies), other.problems) == (len(reported.policies), reported.problems)
        and other.policies != reported.policies
    ]
    if rivals:
        raise WorkError(_conflict_message(task, split, [reported, *rivals]))
    taken = {id(e) for e in reported.evaluations}
    left_out: dict[str, list[str]] = {}
    sampling = reported.evaluations[0].sampling  # the same for both keys: only measures are described
    reported_key = ComparableKey(measure=reported.measure, sampling=sampling)
    for e in evaluations:
        if id(e) not in taken:
            key = ComparableKey(measure=e.measure, sampling=sampling)
            difference = describe_differences(key, reported_key, len(e.problem_ids), reported.problems)
            left_out.setdefault(difference, []).append(f"{e.run.record.name}: {e.key}")
    for difference, names in left_out.items():
        loaded.note(
            f"{task} ({split}): left out because measured differently from what is reported: {_first_four(names)} "
            f"({difference})"
        )


def _group_by_sampling(
    group: _MeasureGroup, groups: Sequence[_MeasureGroup], loaded: LoadedRuns
) -> list[ComparableEvaluations]:
    samplings = [e.sampling for other in groups for e in other.evaluations]
    by_sampling: dict[Sampling, list[Evaluation]] = {}
    for e in group.evaluations:
        by_sampling.setdefault(e.sampling, []).append(e)
    return [
        ComparableEvaluations(
            ComparableKey(measure=group.measure, sampling=sampling),
            _one_per_policy(evaluations, loaded),
            _describe_measure(group, groups),
            ", ".join(
                describe_field(name, value)
                for name, value in sampling
                if len({getattr(other, name) for other in samplings}) > 1
            ),
        )
        for sampling, evaluations in by_sampling.items()
    ]


def _describe_measure(group: _MeasureGroup, groups: Sequence[_MeasureGroup]) -> str:
    """The group's values of the fields that differ between groups, e.g. ``back end vllm`` or ``30 problems``."""
    parts = []
    for name in _varying_fields(groups):
        if name == "problem_ids":  # the number of problems, with a digest if other groups have the same number
            digests = {other.measure.problem_ids for other in groups if other.problems == group.problems}
            parts.append(
                f"{group.problems} problems" + (f" {group.measure.problem_ids[:6]}" if len(digests) > 1 else "")
            )
        else:
            parts.append(describe_field(name, group.measure.known_fields().get(name)))
    return ", ".join(parts)


def _varying_fields(groups: Sequence[_MeasureGroup]) -> list[str]:
    measures = [group.measure.known_fields() for group in groups]
    names = dict.fromkeys(name for fields in measures for name in fields)
    varying = [name for name in names if len({repr(fields.get(name)) for fields in measures}) > 1]
    return [name for name in varying if name == "problem_ids" or name not in DIGESTS or "problem_ids" not in varying]


def _conflict_message(task: str, split: str, groups: Sequence[_MeasureGroup]) -> str:
    described = "; ".join(
        f"{_describe_measure(group, groups)} in {_first_four([e.run.record.name for e in group.evaluations])}"
        for group in groups
    )
    return (
        f"{task} ({split}): evaluations that were measured differently cannot be compared, and no group has more runs "
        f"than the others: {described}; evaluate them in the same way, name the runs to report, or show them side by "
        "side (--mixed)"
    )


def _one_per_policy(evaluations: Sequence[Evaluation], loaded: LoadedRuns) -> list[Evaluation]:
    """Keep one evaluation per policy, because pooling several would count a seed more than once.

    Evaluations with the largest n that all policies share are preferred, then the largest n, then the newest.
    """
    by_policy: dict[tuple[object, ...], list[Evaluation]] = {}
    for e in sorted(evaluations, key=lambda e: (e.scored_at, e.run.record.started, e.run.record.id, e.key)):
        by_policy.setdefault(e.run.policy, []).append(e)
    shared = set.intersection(*({e.n for e in repeated} for repeated in by_policy.values()))
    n = max(shared, default=None)
    selected = []
    for repeated in by_policy.values():
        *others, best = sorted(repeated, key=lambda e: (e.n == n, e.n))
        selected.append(best)
        for other in others:
            reason = (
                f"the same configuration, seed and sampling were measured again in {best.run.record.name}: {best.key}"
                if other.n == best.n
                else f"the same policy with n = {best.n} in {best.run.record.name}: {best.key} is reported"
            )
            loaded.note(f"{other.run.record.name}: {other.key} ({other.split}, n = {other.n}) left out; {reason}")
    return selected


def _first_four(names: Iterable[str]) -> str:
    unique = sorted(set(names))
    return ", ".join(unique[:4]) + (f" and {len(unique) - 4} more" if len(unique) > 4 else "")
