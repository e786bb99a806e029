"""Sample, judge and score one policy on one task. After an interruption the same call draws only missing samples."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from progrpo_cli import heavy
from progrpo_cli.config.hashing import digest
from progrpo_cli.console import log, progress
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.evaluation.scores import score
from progrpo_cli.evaluation.scores_file import Scores, short_error
from progrpo_cli.evaluation.settings import EvalSettings
from progrpo_cli.records import files
from progrpo_cli.records.layout import SAMPLES, SCORES
from progrpo_cli.records.lines import SampleLine
from progrpo_cli.records.provenance import now
from progrpo_cli.sampling.base import Batch, Sample, Sampler, derived_seed
from progrpo_cli.tasks.base import Attempt, Problem, Task
from progrpo_cli.tasks.contamination import count_seen
from progrpo_cli.tasks.judge_errors import LARGEST_SHARE
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.untrusted import MEDIUM, read_bytes, read_text

TRUNCATED_SHARE = 0.5
"""Share of truncated samples above which an evaluation warns."""


@dataclass(frozen=True)
class FinishedEvaluation:
    """The directory and scores of a finished evaluation."""

    directory: Path
    scores: Scores

    @property
    def samples(self) -> Path:
        """The file with all samples, one per line."""
        return self.directory / SAMPLES


@heavy.rare_collections()
def evaluate(
    root: Path,
    settings: EvalSettings,
    ks: Sequence[int],
    *,
    make_sampler: Callable[[Task], Sampler],
    policy_fields: dict[str, Any],
    title: str,
    trained_on: Collection[str] = (),
) -> FinishedEvaluation:
    """Evaluate one policy on one task below ``root`` (a run's ``eval/``).

    Args:
        root: the parent of the evaluation's directory ``<task>-<hash of the settings>``.
        settings: what is sampled and how.
        ks: the k of Pass@k, each at most ``settings.n``. The k of earlier calls on the same samples are kept.
        make_sampler: called only if samples are missing, so that the policy is not loaded unnecessarily.
        policy_fields: further fields of ``scores.json`` (policy, config_hash, ...).
        title: the name shown in the progress display.
        trained_on: fingerprints of the questions that the policy was trained on. Held-out problems among them are
            counted.

    Raises:
        RequestError: the task has no problems in the split, or the file of samples is damaged or has other problems.
        WorkError: the judge failed on too many samples.
    """
    task = make_task(settings.task)
    problems = list(task.problems(settings.split))[: settings.limit]
    if not problems:
        raise RequestError(f"task {task.name} has no problems in its {settings.split} split")
    seen = None
    if trained_on and settings.split != "rl":
        seen = count_seen(problems, settings.task, trained_on, split=settings.split)
    directory = root / settings.directory_name()
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        samples = _complete_samples(directory / SAMPLES, task, problems, settings, make_sampler, title)
    except RequestError:
        if is_new:  # nothing was drawn, and a refused request leaves no files
            shutil.rmtree(directory)
        raise
    _check_judge_errors(samples, directory)
    scores_path = directory / SCORES
    if scores_path.exists():
        ks = [*ks, *_read_ks(scores_path)]
    key = settings.key(problems, chat=task.chat)
    scores = Scores(
        task=settings.task.label,
        split=settings.split,
        comparable_key=key,
        task_version=key.measure.problems,
        **score(samples, problems, task, n=settings.n, ks=sorted(set(ks))),
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_new_tokens=settings.task.max_new_tokens,
        backend=settings.backend,
        dtype=settings.dtype,
        judge_version=settings.task.judge_version,
        limit=settings.limit,
        seen_in_training=seen,
        seed=settings.seed,
        **policy_fields,
        scored_at=now(),
    )
    files.write_json(scores_path, scores.as_json())
    _warn_about_truncation(scores, settings, title)
    return FinishedEvaluation(directory, scores)


def _warn_about_truncation(scores: Scores, settings: EvalSettings, title: str) -> None:
    share = scores.verdicts.get("truncated", 0) / max(1, sum(scores.verdicts.values()))
    if share > TRUNCATED_SHARE:
        log.warning(
            f"{title}: {share:.0%} of the samples are truncated and count as not correct. If they are too long, raise "
            f"task.max_new_tokens ({settings.task.max_new_tokens}). If text follows the answer, the policy ends with a "
            "token that is missing in its files; add it to model.stop_tokens"
        )


def _read_ks(path: Path) -> list[int]:
    """The k of an earlier call on the same samples; empty if ``scores.json`` is damaged."""
    try:
        return Scores.model_validate_json(read_bytes(path, MEDIUM)).k
    except ValidationError as error:
        log.warning(f"{path} is damaged and will be rewritten: {short_error(error)}")
        return []


def _complete_samples(
    path: Path,
    task: Task,
    problems: Sequence[Problem],
    settings: EvalSettings,
    make_sampler: Callable[[Task], Sampler],
    title: str,
) -> list[SampleLine]:
    """Read the existing samples, draw the missing ones and return all.

    Batches have a fixed composition and their own seeds, so a batch that a crash interrupted is drawn again identically
    and no other batch changes. Problems are sorted by the length of their prompts to reduce padding.
    """
    by_length = sorted(problems, key=lambda problem: len(problem.prompt))
    wanted = [(problem, index) for problem in by_length for index in range(settings.n)]
    try:
        present = cast(list[SampleLine], files.read_lines(path))
    except ValueError as error:
        raise RequestError(f"{error}; --fresh samples again") from error
    identity = {
        "digest": digest([asdict(problem) for problem in problems]),
        "judge_version": settings.task.judge_version,
    }
    _check_same_problems(path, present, wanted, identity)
    if any(line["verdict"] == "error" for line in present):
        _judge_errors_again(present, task, problems)
        files.write_text(path, files.json_lines(present))
    if len(present) == len(wanted):
        return present
    rows = settings.rows_per_batch
    del present[len(present) // rows * rows :]
    files.write_text(path, files.json_lines(present))
    if present:
        log.info(f"{title}: {len(present)} of {len(wanted)} samples exist already")
    missing = {start: wanted[start : start + rows] for start in range(len(present), len(wanted), rows)}
    batches = [
        Batch([problem.prompt for problem, _ in batch], derived_seed(f"eval-{settings.seed}-{start}"))
        for start, batch in missing.items()
    ]
    sampler = make_sampler(task)
    with path.open("a", encoding="utf-8") as file, progress(len(wanted), title) as display:
        display.update(len(present))
        started, tokens = time.monotonic(), 0
        for batch, samples in zip(missing.values(), sampler.sample(batches), strict=True):
            lines = _judge_batch(task, batch, samples)
            file.write(files.json_lines(lines))
            file.flush()
            os.fsync(file.fileno())
            present.extend(lines)
            tokens += sum(sample.tokens for sample in samples)
            display.update(len(present), f"samples, {tokens / (time.monotonic() - started):.0f} tokens/s")
    return present


def _judge_errors_again(present: Sequence[SampleLine], task: Task, problems: Sequence[Problem]) -> None:
    """Judge again, in place, the samples on which the judge failed. They ended, or they would be ``truncated``."""
    by_id = {problem.id: problem for problem in problems}
    failed = [line for line in present if line["verdict"] == "error"]
    attempts = [Attempt(by_id[line["problem_id"]], line["text"], True) for line in failed]
    for line, verdict in zip(failed, task.verdicts(attempts), strict=True):
        line["verdict"] = verdict


def _check_judge_errors(samples: Sequence[SampleLine], directory: Path) -> None:
    """Warn if the judge failed on some samples.

    Raises:
        WorkError: it failed on more than ``LARGEST_SHARE`` of the samples; no scores are written.
    """
    failed = [line["problem_id"] for line in samples if line["verdict"] == "error"]
    if not failed:
        return
    message = f"{directory}: the judge failed on {len(failed)} of {len(samples)} samples (first: problem {failed[0]})"
    if len(failed) > LARGEST_SHARE * len(samples):
        raise WorkError(f"{message}; the samples are kept, and the same command judges these again")
    log.warning(f"{message}; they have the verdict `error` and count as not correct")


def _check_same_problems(
    path: Path, present: Sequence[SampleLine], wanted: Sequence[tuple[Problem, int]], identity: Mapping[str, Any]
) -> None:
    """Check the existing samples against ``problems.json``, or write that file if there are no samples yet.

    Directories of early versions have no ``problems.json``. Their samples must have the expected problem ids, their
    judge has version 1, and no file is written, because the data they were drawn from are unknown.

    Args:
        path: the file of samples.
        present: the existing samples.
        wanted: problem and index of every sample, in order.
        identity: ``digest`` of the problems and ``judge_version``.

    Raises:
        RequestError: the task's data or its judge have changed since the samples were drawn.
    """
    identity_path = path.with_name("problems.json")
    if not present:
        files.write_json(identity_path, dict(identity))
        return
    earlier = json.loads(read_text(identity_path)) if identity_path.exists() else {}
    before, now_is = earlier.get("judge_version", 1), identity["judge_version"]
    if before != now_is:
        raise RequestError(
            f"{path} holds samples judged by version {before} of the task's judge, but this is version {now_is}; "
            "--fresh samples and judges again"
        )
    ids = [(line.get("problem_id"), line.get("sample_index")) for line in present]
    same = ids == [(problem.id, index) for problem, index in wanted[: len(present)]]
    if same and earlier:
        same = earlier.get("digest") == identity["digest"]
    if not same:
        raise RequestError(f"{path} holds samples of other problems than the task has now; --fresh samples again")


def _judge_batch(task: Task, batch: Sequence[tuple[Problem, int]], samples: Sequence[Sample]) -> list[SampleLine]:
    """Judge the samples of a batch and return their lines of ``samples.jsonl``."""
    attempts = [
        Attempt(problem, sample.text, sample.finished) for (problem, _), sample in zip(batch, samples, strict=True)
    ]
    return [
        {
            "problem_id": problem.id,
            "sample_index": index,
            "text": sample.text,
            "verdict": verdict,
            "tokens": sample.tokens,
            "entropy": sample.entropy,
            "logprob": sample.logprob,
            **_topk_fields(sample),
        }
        for (problem, index), sample, verdict in zip(batch, samples, task.verdicts(attempts), strict=True)
    ]


def _topk_fields(sample: Sample) -> SampleLine:
    if sample.entropy_topk is None:
        return {}
    return {
        "entropy_topk": sample.entropy_topk,
        "missing_mass": sample.missing_mass,
        "entropy_at_most": sample.entropy_at_most,
    }
