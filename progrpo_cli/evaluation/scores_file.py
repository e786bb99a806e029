"""The model of ``scores.json``, and the rule that decides which scores may be compared.

Every reader and writer of the file uses :class:`Scores`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from progrpo_cli.config.hashing import digest
from progrpo_cli.section import LARGEST_N, MOST_K

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1)]

OWN_END = "end-of-sequence"
"""Stands in ``stop_tokens`` for each policy's own end-of-sequence token."""


class Measure(BaseModel):
    """How scores were measured, apart from the sampling settings. None: an older file does not record the field.

    Two measures match if no field that both record differs. No field depends on the policy, its tokenizer or its chat
    template, so a base can be compared with a policy of another model family.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    task: str
    split: str
    problem_ids: str
    """Digest of the problems' sorted ids. Scores on different problems cannot be paired."""
    problems: str | None = None
    """Digest of ids and prompts, in the task's order."""
    judged_by: str | None = None
    """Digest of the problems' references and of the settings that decide verdicts (``Mark.DECIDES_VERDICTS``)."""
    judge_version: int = 1
    """Version of the judging code; 1 in files that do not record it."""
    prompt: str | None = None
    """``plain`` (the problem's text as it is) or ``chat`` (through each policy's own chat template)."""
    max_new_tokens: int
    stop_tokens: tuple[str, ...] | None = None
    """What ends a sample before the token limit: ``OWN_END`` and the texts of tokens that a configuration adds."""
    backend: str | None = None
    dtype: str | None = None

    def known_fields(self) -> dict[str, Any]:
        """The recorded fields, including those of later versions."""
        return self.model_dump(exclude_none=True)

    def missing_fields(self) -> list[str]:
        """The names of fields that are not recorded."""
        return [name for name in type(self).model_fields if getattr(self, name) is None]

    def differing_fields(self, other: Measure) -> list[str]:
        """The names of fields that both record with different values; empty if the measures match."""
        ours, theirs = self.known_fields(), other.known_fields()
        return [name for name in ours if name in theirs and ours[name] != theirs[name]]

    def merged(self, other: Measure) -> Measure:
        """This measure, with missing fields filled in from the other one."""
        return Measure.model_validate({**other.known_fields(), **self.known_fields()})


class Sampling(BaseModel):
    """How completions were sampled. Different values are different rows of the same table."""

    model_config = ConfigDict(frozen=True, extra="forbid")  # this version cannot compare fields of a later one

    temperature: Finite
    top_p: Finite


class ComparableKey(BaseModel):
    """The values that must agree before numbers are pooled or subtracted; seed, n, k and policy may differ."""

    model_config = ConfigDict(frozen=True)

    measure: Measure
    sampling: Sampling

    def comparable(self, other: ComparableKey) -> bool:
        """Whether numbers may be pooled or subtracted. Fields that one side does not record are ignored."""
        return self.sampling == other.sampling and not self.measure.differing_fields(other.measure)


class Interval(BaseModel):
    """A metric with its 95 % interval, and possibly further values."""

    model_config = ConfigDict(extra="allow")

    value: Finite
    low: Finite
    high: Finite


class PerProblem(BaseModel):
    """The values of each problem, (P,) each, in the order of ``problem_id``."""

    problem_id: list[str | int]
    entropy: list[Finite | None]
    distinct_correct: list[Finite | None] | None


class Scores(BaseModel):
    """The contents of ``scores.json``; see docs/evaluation.md for the fields. Older files lack some of them.

    ``pass@K`` are additional fields of type :class:`Interval`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    task: str
    split: str
    comparable_key: ComparableKey | None = None
    task_version: str | None = None
    """The same digest as :attr:`Measure.problems`, for files without ``comparable_key``."""
    n: Annotated[Positive, Field(le=LARGEST_N)]
    k: Annotated[list[Positive], Field(max_length=MOST_K)]
    problems: int | None = None
    counts: Annotated[list[tuple[str | int, int, int]], Field(min_length=1)]
    """(problem id, samples, correct samples) of each problem."""
    entropy: Interval | None = None
    entropy_topk: Interval | None = None
    response_length: Interval | None = None
    coverage: Interval | None = None
    distinct_correct: Interval | None = None
    beyond_majority: Interval | None = None
    verdicts: dict[str, int] = {}
    per_problem: PerProblem
    interval: str = ""
    """The method of the intervals, in words."""
    temperature: Finite
    top_p: Finite
    max_new_tokens: int
    backend: str | None = None
    dtype: str | None = None
    end_tokens: list[str] | None = None
    """The tokens that end a completion of this policy; None in older files."""
    judge_version: int = 1
    limit: int | None = None
    seen_in_training: int | None = None
    """Number of problems whose question the policy was trained on; None if its training data are unknown."""
    seed: int | None = None
    method: str | None = None
    """The method that trained the policy; None if no run trained it."""
    method_version: int | None = None
    policy: str = ""
    base: str | None = None
    config_hash: str | None = None
    eval_dir: str = ""
    scored_at: str = ""

    @model_validator(mode="after")
    def _check_consistency(self) -> Scores:
        ids = [problem for problem, _, _ in self.counts]
        if len(set(map(str, ids))) != len(ids) or not all(n == self.n and 0 <= c <= n for _, n, c in self.counts):
            raise ValueError("counts are inconsistent: duplicate ids, another n, or more correct samples than drawn")
        per_problem = self.per_problem
        columns = [column for column in (per_problem.entropy, per_problem.distinct_correct) if column is not None]
        if any(len(column) != len(per_problem.problem_id) for column in columns):
            raise ValueError("per_problem has columns of different lengths")
        if set(map(str, per_problem.problem_id)) != set(map(str, ids)):
            raise ValueError("per_problem and counts have different problems")
        if not all(0 <= value <= self.n for value in per_problem.distinct_correct or () if value is not None):
            raise ValueError("distinct_correct contradicts n: below 0, or more than were drawn")
        for name, value in (self.model_extra or {}).items():
            if re.fullmatch(r"pass@\d+", name):
                Interval.model_validate(value)
        key = self.comparable_key
        if key is not None and (
            (key.measure.task, key.measure.split, key.measure.max_new_tokens)
            != (self.task, self.split, self.max_new_tokens)
            or key.sampling != Sampling(temperature=self.temperature, top_p=self.top_p)
        ):
            raise ValueError("comparable_key contradicts the other fields")
        return self

    @property
    def key(self) -> ComparableKey:
        """``comparable_key``, or for older files a key made from the other fields."""
        if self.comparable_key is not None:
            return self.comparable_key
        return ComparableKey(
            measure=Measure(
                task=self.task,
                split=self.split,
                problem_ids=digest_of_ids(problem for problem, _, _ in self.counts),
                problems=self.task_version,
                judge_version=self.judge_version,
                max_new_tokens=self.max_new_tokens,
                backend=self.backend,
                dtype=self.dtype,
            ),
            sampling=Sampling(temperature=self.temperature, top_p=self.top_p),
        )

    def metrics(self) -> dict[str, Interval]:
        """All metrics with an interval, Pass@k first."""
        own = {name: getattr(self, name) for name in type(self).model_fields}
        extra = {
            name: Interval.model_validate(value)
            for name, value in (self.model_extra or {}).items()
            if isinstance(value, Mapping) and value.keys() >= {"value", "low", "high"}
        }
        metrics = {**extra, **{name: value for name, value in own.items() if isinstance(value, Interval)}}
        return dict(sorted(metrics.items(), key=lambda metric: not metric[0].startswith("pass@")))

    def as_json(self) -> dict[str, Any]:
        """The fields that were set, as JSON values."""
        return self.model_dump(mode="json", exclude_unset=True)


def digest_of_ids(ids: Iterable[str | int]) -> str:
    """Return the digest :attr:`Measure.problem_ids` of these ids."""
    return digest(sorted(map(str, ids)))


FIELD_NAMES = {
    "problem_ids": "problems",
    "problems": "prompts",
    "prompt": "prompt format",
    "judged_by": "references",
    "judge_version": "judge version",
    "max_new_tokens": "token limit",
    "stop_tokens": "stop tokens",
    "backend": "back end",
    "top_p": "top-p",
}
"""Field -> its name in messages, where it differs."""

N_DEPENDENT_METRICS = ("coverage", "distinct_correct", "beyond_majority")
"""Metrics that can only be compared between evaluations with the same n."""

DIGESTS = ("problem_ids", "problems", "judged_by")
"""Fields whose values are digests, which mean nothing to a reader."""


def describe_field(name: str, value: object) -> str:
    """Describe one field of a measure or a sampling, e.g. ``back end vllm`` or ``temperature 0.7``."""
    return f"{FIELD_NAMES.get(name, name)} {_format_value(name, value)}"


def _format_value(name: str, value: object) -> str:
    if value is None:
        return "unknown"
    if name in DIGESTS:
        return str(value)[:6]
    if isinstance(value, tuple | list):
        return " or ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_differences(one: ComparableKey, other: ComparableKey, problems: int, other_problems: int) -> str:
    """Describe how the first key differs from the other; empty if they can be compared.

    Args:
        one: the key to describe.
        other: the key to compare it with.
        problems: the number of problems of the first, for descriptions such as ``40 against 300 problems``.
        other_problems: the number of problems of the other.
    """
    names = one.measure.differing_fields(other.measure)
    parts = []
    if "problem_ids" in names:  # different problems imply different prompts and references
        names = [name for name in names if name not in DIGESTS]
        parts.append(
            f"{problems} against {other_problems} problems" if problems != other_problems else "different problems"
        )
    ours, theirs = one.measure.known_fields(), other.measure.known_fields()
    for name in names:
        if name in DIGESTS:
            parts.append(f"different {FIELD_NAMES[name]}")
        else:
            parts.append(f"{describe_field(name, ours[name])} against {_format_value(name, theirs[name])}")
    for name, value in one.sampling:
        if value != getattr(other.sampling, name):
            parts.append(f"{describe_field(name, value)} against {_format_value(name, getattr(other.sampling, name))}")
    return ", ".join(parts)


def describe_missing_fields(measures: Iterable[Measure]) -> str:
    """List the fields that some of the measures do not record, e.g. ``back end and dtype``; empty if there are none."""
    missing = {field for measure in measures for field in measure.missing_fields()}
    names = [FIELD_NAMES.get(field, field) for field in Measure.model_fields if field in missing]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def short_error(error: Exception) -> str:
    """Describe in a few words what is wrong with a file."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")
    return f"{type(error).__name__}: {error}"
