"""Sample, judge, write; interrupted at any moment, the same call samples only what is missing."""

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
from progrpo_cli.evaluation.scores_file import Scores, first_error
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
"""Share of truncated samples above which an evaluation says so."""


@dataclass(frozen=True)
class FinishedEvaluation:
    """A finished evaluation."""

    directory: Path
    scores: Scores

    @property
    def samples(self) -> Path:
        """Every sample, a line each."""
        return self.directory / SAMPLES


@heavy.rare_collections()
def evaluate(
    root: Path,
    settings: EvalSettings,
    ks: Sequence[int],
    *,
    make_sampler: Callable[[Task], Sampler],
    described: dict[str, Any],
    title: str,
    trained_on: Collection[str] = (),
) -> FinishedEvaluation:
    """Evaluate one policy on one task below ``root`` (a run's ``eval/``).

    Args:
        root: the evaluation gets the directory ``root/<task>-<hash of the settings>``.
        settings: what is sampled and how.
        ks: the k of Pass@k, each at most ``settings.n``; the k of an earlier call on the same samples are kept.
        make_sampler: called only if samples are missing: the policy is not loaded for nothing.
        described: further fields of ``scores.json`` (policy, config_hash).
        title: what the progress display calls it.
        trained_on: fingerprints of the questions that the policy was trained on; held-out problems among them are
            counted.

    Raises:
        RequestError: the task has no problems in the split, or the samples' file is damaged or of other problems.
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
        samples = _complete(directory / SAMPLES, task, problems, settings, make_sampler, title)
    except RequestError:
        if is_new:  # nothing was drawn: a request that is refused leaves nothing behind
            shutil.rmtree(directory)
        raise
    _refuse_errors(samples, directory)
    scores_path = directory / SCORES
    if scores_path.exists():
        ks = [*ks, *_ks_of_before(scores_path)]
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
        **described,
        scored_at=now(),
    )
    files.write_json(scores_path, scores.as_json())
    _warn_of_truncation(scores, settings, title)
    return FinishedEvaluation(directory, scores)


def _warn_of_truncation(scores: Scores, settings: EvalSettings, title: str) -> None:
    share = scores.verdicts.get("truncated", 0) / max(1, sum(scores.verdicts.values()))
    if share > TRUNCATED_SHARE:
        log.warning(
            f"{title}: {share:.0%} of the samples are truncated, and none of them counts as right: if they are "
            f"too long, raise task.max_new_tokens ({settings.task.max_new_tokens}); if text goes on behind the answer, "
            "the policy ends with a token that neither its files nor model.stop_tokens name"
        )


def _ks_of_before(path: Path) -> list[int]:
    """The k of an earlier call on the same samples; what is damaged is written anew from them."""
    try:
        return Scores.model_validate_json(read_bytes(path, MEDIUM)).k
    except ValidationError as error:
        log.warning(f"{path} is damaged and written anew: {first_error(error)}")
        return []


def _complete(
    path: Path,
    task: Task,
    problems: Sequence[Problem],
    settings: EvalSettings,
    make_sampler: Callable[[Task], Sampler],
    title: str,
) -> list[SampleLine]:
    """Read the samples that are there, draw those that are missing, return all.

    Samples come in batches of fixed composition, each with a seed of its own: a batch that a crash cut short is drawn
    again, exactly as it would have been, and no other is touched. Problems are sorted by the length of their prompts,
    so that a batch is padded little.
    """
    by_length = sorted(problems, key=lambda problem: len(problem.prompt))
    wanted = [(problem, index) for problem in by_length for index in range(settings.n)]
    try:
        present = cast(list[SampleLine], files.read_lines(path))
    except ValueError as error:
        raise RequestError(f"{error}; --fresh samples again") from error
    held = {
        "digest": digest([asdict(problem) for problem in problems]),
        "judge_version": settings.task.judge_version,
    }
    _check_that_problems_are_the_same(path, present, wanted, held)
    if any(line["verdict"] == "error" for line in present):
        _judge_again(present, task, problems)
        files.write_text(path, files.json_lines(present))
    if len(present) == len(wanted):
        return present
    rows = settings.rows_per_batch
    del present[len(present) // rows * rows :]
    files.write_text(path, files.json_lines(present))
    if present:
        log.info(f"{title}: {len(present)} of {len(wanted)} samples are there already")
    missing = {start: wanted[start : start + rows] for start in range(len(present), len(wanted), rows)}
    batches = [
        Batch([problem.prompt for problem, _ in batch], derived_seed(f"eval-{settings.seed}-{start}"))
        for start, batch in missing.items()
    ]
    sampler = make_sampler(task)
    with path.open("a", encoding="utf-8") as file, progress(len(wanted), title) as shown:
        shown.update(len(present))
        began, tokens = time.monotonic(), 0
        for batch, drawn in zip(missing.values(), sampler.sample(batches), strict=True):
            lines = _judged(task, batch, drawn)
            file.write(files.json_lines(lines))
            file.flush()
            os.fsync(file.fileno())
            present.extend(lines)
            tokens += sum(sample.tokens for sample in drawn)
            shown.update(len(present), f"samples, {tokens / (time.monotonic() - began):.0f} tokens/s")
    return present


def _judge_again(present: Sequence[SampleLine], task: Task, problems: Sequence[Problem]) -> None:
    """Give samples on which the judge failed their verdicts; they had ended, or they would be ``truncated``."""
    of_id = {problem.id: problem for problem in problems}
    failed = [line for line in present if line["verdict"] == "error"]
    attempts = [Attempt(of_id[line["problem_id"]], line["text"], True) for line in failed]
    for line, verdict in zip(failed, task.verdicts(attempts), strict=True):
        line["verdict"] = verdict


def _refuse_errors(samples: Sequence[SampleLine], directory: Path) -> None:
    """Say on how many samples the judge failed.

    Raises:
        WorkError: on more than its share: no scores are made of them.
    """
    failed = [line["problem_id"] for line in samples if line["verdict"] == "error"]
    if not failed:
        return
    told = f"{directory}: the judge failed on {len(failed)} of {len(samples)} samples (first of problem {failed[0]})"
    if len(failed) > LARGEST_SHARE * len(samples):
        raise WorkError(f"{told}; the samples are kept, and the same command judges these again")
    log.warning(f"{told}, which count as not correct; `error` among the verdicts")


def _check_that_problems_are_the_same(
    path: Path, present: Sequence[SampleLine], wanted: Sequence[tuple[Problem, int]], problems: Mapping[str, Any]
) -> None:
    """Keep beside the samples of what they are and who judged them; others are not gone on with.

    A directory without a digest is an earlier version's: its samples have to be of problems with the same ids, and it
    stays without, for nobody knows what it was drawn from. Its judge is of version 1.

    Raises:
        RequestError: the data of the task, or its judge, have changed since the samples were drawn.
    """
    kept = path.with_name("problems.json")
    if not present:
        files.write_json(kept, dict(problems))
        return
    held = json.loads(read_text(kept)) if kept.exists() else {}
    before, now_is = held.get("judge_version", 1), problems["judge_version"]
    if before != now_is:
        raise RequestError(
            f"{path} holds samples judged by version {before} of the task's judge, and this is version {now_is}; "
            "--fresh samples and judges again"
        )
    of_lines = [(line.get("problem_id"), line.get("sample_index")) for line in present]
    same = of_lines == [(problem.id, index) for problem, index in wanted[: len(present)]]
    if same and held:
        same = held.get("digest") == problems["digest"]
    if not same:
        raise RequestError(f"{path} holds samples of other problems than the task has now; --fresh samples again")


def _judged(task: Task, batch: Sequence[tuple[Problem, int]], drawn: Sequence[Sample]) -> list[SampleLine]:
    """The lines of ``samples.jsonl``."""
    attempts = [
        Attempt(problem, sample.text, sample.finished) for (problem, _), sample in zip(batch, drawn, strict=True)
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
            **_of_the_likeliest(sample),
        }
        for (problem, index), sample, verdict in zip(batch, drawn, task.verdicts(attempts), strict=True)
    ]


def _of_the_likeliest(sample: Sample) -> SampleLine:
    if sample.entropy_topk is None:
        return {}
    return {
        "entropy_topk": sample.entropy_topk,
        "missing_mass": sample.missing_mass,
        "entropy_at_most": sample.entropy_at_most,
    }
