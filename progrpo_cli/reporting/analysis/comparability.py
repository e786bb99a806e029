"""Which evaluations may be set against each other: of a task and split those that were measured alike.

The rule is that of ``evaluation/scores_file.py``; other sampling is another row of the same table.
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
    """Evaluations of a task and split that may be pooled and subtracted: one a policy."""

    key: ComparableKey
    """With what only some of them say filled in."""
    evaluations: list[Evaluation]
    footnote: str
    """In what they were measured otherwise than others in the report, e.g. ``back end vllm``; empty: there are none."""
    sampled: str
    """The same of their sampling, e.g. ``temperature 0.7``."""


@dataclass(frozen=True)
class _MeasureGroup:
    """Evaluations of a task and split that were measured alike, however they were sampled."""

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
        """What is reported rather than another way: what most policies share, then what says more."""
        return (
            len(self.policies),
            self.problems,
            self.measure.judge_version,
            max(e.n for e in self.evaluations),
            self.measure.backend == "hf",
            self.measure.dtype == "float32",
            max(e.scored_at for e in self.evaluations),
        )


def choose(evaluations: Sequence[Evaluation], loaded: LoadedRuns, *, mixed: bool) -> list[ComparableEvaluations]:
    """The evaluations to report, those together that may be pooled and subtracted.

    Of a task and split that was measured in several ways the one is reported that most policies share (of several, the
    one over the most problems), and a note names the others.

    Args:
        mixed: report all ways, side by side and never set against each other.

    Raises:
        WorkError: as many policies have another way, and ``mixed`` is false; the message names the runs.
    """
    chosen: list[ComparableEvaluations] = []
    for task, split in sorted({(e.task, e.split) for e in evaluations}):
        column = [e for e in evaluations if (e.task, e.split) == (task, split)]
        ways = _ways(column)
        if not mixed:
            _note_others(task, split, ways[0], column, loaded)
            ways = ways[:1]
        for way in ways:
            chosen.extend(_by_sampling(way, ways, loaded))
    return chosen


def footnotes(evaluations: Sequence[Evaluation]) -> list[str]:
    """What has to be said of evaluations of one task and split that stand in one table, a sentence each."""
    first = evaluations[0]
    where = f"{first.task} ({first.split})"
    sentences = []
    if missing_fields := describe_missing_fields(e.measure for e in evaluations):
        count = sum(bool(e.measure.missing_fields()) for e in evaluations)
        sentences.append(
            f"{where}: {count} of {len(evaluations)} scores, of earlier versions, do not say all of {missing_fields}; in these "
            "they are taken to be alike."
        )
    versions = {f"judge {e.measure.judge_version}" for e in evaluations if e.measure.judge_version > 1}
    for key, what in (("method.version", "method {}"), ("task.judge_version", "training's judge for {}")):
        held = [(e.run.method, e.run.settings.get(key, 1)) for e in evaluations if not e.run.is_model]
        versions |= {f"{what.format(method)} {version}" for method, version in held if version != 1}
    if versions:
        sentences.append(f"{where}: versions above 1: {', '.join(sorted(versions))}.")
    return sentences


def _ways(column: Sequence[Evaluation]) -> list[_MeasureGroup]:
    """Every evaluation in one way, the way to report first."""
    left, ways = list(column), []
    while left:
        ways.append(max(_candidates(left), key=lambda way: way.rank))
        taken = {id(e) for e in ways[-1].evaluations}
        left = [e for e in left if id(e) not in taken]
    return ways


def _candidates(column: Sequence[Evaluation]) -> list[_MeasureGroup]:
    """The ways in which some of the evaluations were measured alike: from each measure on, what goes with it.

    What a measure does not say may be anything, so that one may be in several ways; but no two of a way differ in what
    both say.
    """
    measures: dict[Measure, list[Evaluation]] = {}
    for e in column:
        measures.setdefault(e.measure, []).append(e)
    commonest_first = sorted(measures, key=lambda measure: -len(measures[measure]))
    ways = []
    for first in commonest_first:
        measure, members = first, list(measures[first])
        for other in commonest_first:
            if other != first and not measure.differing_fields(other):
                measure = measure.merged(other)
                members += measures[other]
        ways.append(_MeasureGroup(measure, members))
    return ways


def _note_others(task: str, split: str, way: _MeasureGroup, column: Sequence[Evaluation], loaded: LoadedRuns) -> None:
    rivals = [
        other
        for other in _candidates(column)
        if (len(other.policies), other.problems) == (len(way.policies), way.problems) and other.policies != way.policies
    ]
    if rivals:
        raise WorkError(_complaint(task, split, [way, *rivals]))
    taken = {id(e) for e in way.evaluations}
    left: dict[str, list[str]] = {}
    reported = ComparableKey(measure=way.measure, sampling=way.evaluations[0].sampling)
    for e in column:
        if id(e) not in taken:
            same_sampling = ComparableKey(measure=e.measure, sampling=reported.sampling)
            how = describe_differences(same_sampling, reported, len(e.problem_ids), way.problems)
            left.setdefault(how, []).append(f"{e.run.record.name}: {e.key}")
    for how, names in left.items():
        loaded.note(f"{task} ({split}): left out, measured otherwise than what is reported: {_some(names)} ({how})")


def _by_sampling(way: _MeasureGroup, ways: Sequence[_MeasureGroup], loaded: LoadedRuns) -> list[ComparableEvaluations]:
    others = [e.sampling for each in ways for e in each.evaluations]
    groups: dict[Sampling, list[Evaluation]] = {}
    for e in way.evaluations:
        groups.setdefault(e.sampling, []).append(e)
    return [
        ComparableEvaluations(
            ComparableKey(measure=way.measure, sampling=sampling),
            _one_a_policy(of_sampling, loaded),
            _told_apart(way, ways),
            ", ".join(
                describe_field(name, value)
                for name, value in sampling
                if len({getattr(other, name) for other in others}) > 1
            ),
        )
        for sampling, of_sampling in groups.items()
    ]


def _told_apart(way: _MeasureGroup, ways: Sequence[_MeasureGroup]) -> str:
    """A way's values of what the ways differ in, e.g. ``back end vllm``; ``30 problems``."""
    said = []
    for name in _varied(ways):
        if name == "problem_ids":  # by their number, and a digest where others are as many
            as_many = {other.measure.problem_ids for other in ways if other.problems == way.problems}
            said.append(f"{way.problems} problems" + (f" {way.measure.problem_ids[:6]}" if len(as_many) > 1 else ""))
        else:
            said.append(describe_field(name, way.measure.known_fields().get(name)))
    return ", ".join(said)


def _varied(ways: Sequence[_MeasureGroup]) -> list[str]:
    known_fields = [way.measure.known_fields() for way in ways]
    names = dict.fromkeys(name for of_way in known_fields for name in of_way)
    varied = [name for name in names if len({repr(of_way.get(name)) for of_way in known_fields}) > 1]
    return [name for name in varied if name == "problem_ids" or name not in DIGESTS or "problem_ids" not in varied]


def _complaint(task: str, split: str, ways: Sequence[_MeasureGroup]) -> str:
    described = "; ".join(
        f"{_told_apart(way, ways)} in {_some([e.run.record.name for e in way.evaluations])}" for way in ways
    )
    return (
        f"{task} ({split}): evaluations that were measured differently cannot be compared, and no way has more runs "
        f"than the others: {described}; evaluate them alike, name the runs to report, or show them side by side "
        "(--mixed)"
    )


def _one_a_policy(evaluations: Sequence[Evaluation], loaded: LoadedRuns) -> list[Evaluation]:
    """One evaluation a policy: pooling it with itself would count a seed twice.

    That with the most samples a problem that all policies have, else with the most; of several, the newest.
    """
    of_policy: dict[tuple[object, ...], list[Evaluation]] = {}
    for e in sorted(evaluations, key=lambda e: (e.scored_at, e.run.record.started, e.run.record.id, e.key)):
        of_policy.setdefault(e.run.policy, []).append(e)
    shared = set.intersection(*({e.n for e in same} for same in of_policy.values()))
    n = max(shared, default=None)
    kept = []
    for same in of_policy.values():
        *others, best = sorted(same, key=lambda e: (e.n == n, e.n))
        kept.append(best)
        for other in others:
            why = (
                f"the same configuration, seed and sampling were measured again in {best.run.record.name}: {best.key}"
                if other.n == best.n
                else f"the same policy with n = {best.n} in {best.run.record.name}: {best.key} is reported"
            )
            loaded.note(f"{other.run.record.name}: {other.key} ({other.split}, n = {other.n}) left out; {why}")
    return kept


def _some(names: Iterable[str]) -> str:
    unique = sorted(set(names))
    return ", ".join(unique[:4]) + (f" and {len(unique) - 4} more" if len(unique) > 4 else "")
