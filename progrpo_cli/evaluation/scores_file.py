"""``scores.json``: what it holds, and which two of them may be set against each other.

Whoever writes or reads one does it through :class:`Scores`, from whatever place its text comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from progrpo_cli.config.hashing import digest

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1)]

OWN_END = "end-of-sequence"
"""In ``stop_tokens``: each policy's own end-of-sequence token, whatever its tokenizer calls it."""


class Measure(BaseModel):
    """How something was measured, but for how it was sampled; None is what an older file does not say.

    Two policies were measured alike if no field that both know differs. Nothing here depends on the policy, its
    tokenizer or its chat template: a base and a policy of another family can be set against each other.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    task: str
    split: str
    problem_ids: str
    """Digest of the problems' sorted ids: who has other problems cannot be paired."""
    problems: str | None = None
    """Digest of ids and prompts, in the task's order: of an own file, what its lines say."""
    judged_by: str | None = None
    """Digest of the problems' references and of the settings that decide verdicts (``Mark.DECIDES_VERDICTS``)."""
    judge_version: int = 1
    """Of the code that judged; files of before there were versions are of 1."""
    prompt: str | None = None
    """``plain`` (the problem's text as it is) or ``chat`` (through each policy's own chat template)."""
    max_new_tokens: int
    stop_tokens: tuple[str, ...] | None = None
    """What ends a sample before the token limit: ``OWN_END``, and the text of tokens that a configuration adds."""
    backend: str | None = None
    dtype: str | None = None

    def known(self) -> dict[str, Any]:
        """The fields that the file says, those of later versions too."""
        return self.model_dump(exclude_none=True)

    def unsaid(self) -> list[str]:
        """The fields that the file does not say."""
        return [name for name in type(self).model_fields if getattr(self, name) is None]

    def differing(self, other: Measure) -> list[str]:
        """The fields that both say and in which they differ; none: they were measured alike, as far as is known."""
        ours, theirs = self.known(), other.known()
        return [name for name in ours if name in theirs and ours[name] != theirs[name]]

    def completed(self, other: Measure) -> Measure:
        """This one, with what only the other says."""
        return Measure.model_validate({**other.known(), **self.known()})


class Sampling(BaseModel):
    """How the completions were sampled: other values are another row of the same table."""

    model_config = ConfigDict(frozen=True, extra="forbid")  # what a later version adds cannot be compared here

    temperature: Finite
    top_p: Finite


class ComparableKey(BaseModel):
    """What must agree before numbers are pooled or subtracted: not seed, n, k, batch size or policy."""

    model_config = ConfigDict(frozen=True)

    measure: Measure
    sampling: Sampling

    def comparable(self, other: ComparableKey) -> bool:
        """Whether numbers may be pooled or subtracted, as far as both say how they were made."""
        return self.sampling == other.sampling and not self.measure.differing(other.measure)


class Interval(BaseModel):
    """A metric with its 95 % interval, and beside it what else is known of it."""

    model_config = ConfigDict(extra="allow")

    value: Finite
    low: Finite
    high: Finite


class PerProblem(BaseModel):
    """Means of each problem; (P,) each, in the order of ``problem_id``."""

    problem_id: list[str | int]
    entropy: list[Finite | None]
    distinct_correct: list[Finite | None] | None


class Scores(BaseModel):
    """The whole file; fields that older versions did not write may be missing. docs/evaluation.md explains each.

    ``pass@K`` are further fields, an :class:`Interval` each.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    task: str
    split: str
    comparable_key: ComparableKey | None = None
    task_version: str | None = None
    """:attr:`Measure.problems`, where files of before there was a key have it."""
    n: Positive
    k: list[Positive]
    problems: int | None = None
    counts: Annotated[list[tuple[str | int, int, int]], Field(min_length=1)]
    """Problem id, samples, how many of them are correct."""
    entropy: Interval | None = None
    entropy_topk: Interval | None = None
    response_length: Interval | None = None
    coverage: Interval | None = None
    distinct_correct: Interval | None = None
    beyond_majority: Interval | None = None
    verdicts: dict[str, int] = {}
    per_problem: PerProblem
    interval: str = ""
    """How the intervals were made."""
    temperature: Finite
    top_p: Finite
    max_new_tokens: int
    backend: str | None = None
    dtype: str | None = None
    end_tokens: list[str] | None = None
    """The tokens that end a completion of this policy; files of earlier versions do not say it."""
    judge_version: int = 1
    limit: int | None = None
    seen_in_training: int | None = None
    """Problems whose question the policy was trained on; None: what it was trained on is not known."""
    seed: int | None = None
    method: str | None = None
    """Which trained the policy; None: it is no run of ours."""
    method_version: int | None = None
    policy: str = ""
    base: str | None = None
    config_hash: str | None = None
    eval_dir: str = ""
    scored_at: str = ""

    @model_validator(mode="after")
    def _does_not_contradict_itself(self) -> Scores:
        ids = [problem for problem, _, _ in self.counts]
        if len(set(map(str, ids))) != len(ids) or not all(n == self.n and 0 <= c <= n for _, n, c in self.counts):
            raise ValueError("counts contradict themselves: ids twice, another n, or more correct than drawn")
        of_problem = self.per_problem
        columns = [column for column in (of_problem.entropy, of_problem.distinct_correct) if column is not None]
        if any(len(column) != len(of_problem.problem_id) for column in columns):
            raise ValueError("per_problem has columns of different lengths")
        if set(map(str, of_problem.problem_id)) != set(map(str, ids)):
            raise ValueError("per_problem and counts are about different problems")
        if not all(0 <= value <= self.n for value in of_problem.distinct_correct or () if value is not None):
            raise ValueError("distinct_correct contradicts n: below 0, or more than were drawn")
        for name, value in (self.model_extra or {}).items():
            if re.fullmatch(r"pass@\d+", name):
                Interval.model_validate(value)
        said = self.comparable_key
        if said is not None and (
            (said.measure.task, said.measure.split, said.measure.max_new_tokens)
            != (self.task, self.split, self.max_new_tokens)
            or said.sampling != Sampling(temperature=self.temperature, top_p=self.top_p)
        ):
            raise ValueError("comparable_key contradicts the other fields")
        return self

    @property
    def key(self) -> ComparableKey:
        """With what these scores can be compared; of an older file, what follows from its other fields."""
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
        """Everything that has an interval, Pass@k first."""
        own = {name: getattr(self, name) for name in type(self).model_fields}
        extra = {
            name: Interval.model_validate(value)
            for name, value in (self.model_extra or {}).items()
            if isinstance(value, Mapping) and value.keys() >= {"value", "low", "high"}
        }
        everything = {**extra, **{name: value for name, value in own.items() if isinstance(value, Interval)}}
        return dict(sorted(everything.items(), key=lambda metric: not metric[0].startswith("pass@")))

    def as_json(self) -> dict[str, Any]:
        """What is written: only what was given, as plain values."""
        return self.model_dump(mode="json", exclude_unset=True)


def digest_of_ids(ids: Iterable[str | int]) -> str:
    """:attr:`Measure.problem_ids`."""
    return digest(sorted(map(str, ids)))


NAMES = {
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
"""What the fields are called in messages, where they are not called by their own names."""

OF_ALL_SAMPLES = ("coverage", "distinct_correct", "beyond_majority")
"""Metrics that depend on n: evaluations of different n cannot be compared in them."""

DIGESTS = ("problem_ids", "problems", "judged_by")
"""Fields whose values say nothing to a reader."""


def in_words(name: str, value: object) -> str:
    """One field of a measure or a sampling: ``back end vllm``, ``temperature 0.7``."""
    return f"{NAMES.get(name, name)} {_shown(name, value)}"


def _shown(name: str, value: object) -> str:
    if value is None:
        return "unknown"
    if name in DIGESTS:
        return str(value)[:6]
    if isinstance(value, tuple | list):
        return " or ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def differences(one: ComparableKey, other: ComparableKey, problems: int, of_other: int) -> str:
    """How the first was made otherwise than the other, in words; empty: they can be compared.

    Args:
        one: what is described.
        other: what it is compared with.
        problems: how many the first has, so that nobody has to read a digest: ``40 against 300 problems``.
        of_other: how many the other has.
    """
    names = one.measure.differing(other.measure)
    said = []
    if "problem_ids" in names:  # then what they say and how they are judged differs, too: that is no news
        names = [name for name in names if name not in DIGESTS]
        said.append(f"{problems} against {of_other} problems" if problems != of_other else "other problems")
    ours, theirs = one.measure.known(), other.measure.known()
    for name in names:
        if name in DIGESTS:
            said.append(f"other {NAMES[name]} of the problems")
        else:
            said.append(f"{in_words(name, ours[name])} against {_shown(name, theirs[name])}")
    for name, value in one.sampling:
        if value != getattr(other.sampling, name):
            said.append(f"{in_words(name, value)} against {_shown(name, getattr(other.sampling, name))}")
    return ", ".join(said)


def unsaid_in_words(measures: Iterable[Measure]) -> str:
    """The fields that not all of the measures say: ``back end and dtype``; empty if all say everything."""
    names = {name: None for measure in measures for name in measure.unsaid()}
    called = [NAMES.get(name, name) for name in Measure.model_fields if name in names]
    return " and ".join([", ".join(called[:-1]), called[-1]] if len(called) > 1 else called)


def first_error(error: Exception) -> str:
    """What is wrong with a file, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")
    return f"{type(error).__name__}: {error}"
