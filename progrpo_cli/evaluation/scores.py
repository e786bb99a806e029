"""Compute the metrics of ``scores.json`` from the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from progrpo_cli.metrics.bootstrap import PROBABILITY, mean_interval, mean_interval_method, mean_intervals
from progrpo_cli.metrics.majority import majority_vote_accuracy
from progrpo_cli.metrics.passk import Floats, pass_at_k_per_problem
from progrpo_cli.tasks.base import VERDICTS, Problem, Task

Line = Mapping[str, Any]
READABLE = ("correct", "wrong")


def score(
    samples: Sequence[Line], problems: Sequence[Problem], task: Task, *, n: int, ks: Sequence[int]
) -> dict[str, Any]:
    """Pass@k, entropy, diversity and verdicts with 95 % intervals over problems; see docs/evaluation.md.

    Args:
        samples: the lines of ``samples.jsonl``, n per problem.
        problems: the evaluated problems, in the order of ``counts``.
        task: provides the canonical form of solutions.
        n: samples per problem.
        ks: the k of Pass@k, each at most n.

    Returns:
        ``counts`` [[problem_id, n, correct], ...]; ``verdicts``; ``per_problem``, the values of each problem; and as
        {value, low, high}:

        - ``pass@k``;
        - ``entropy`` (nats; mean over samples of a sample's mean token entropy). If the back end knows only the most
          likely tokens it is null, and ``entropy_topk`` has an interval with ``missing_mass`` and ``at_most``;
        - ``response_length`` (tokens, including the end-of-sequence token; truncated samples count as they are);
        - ``coverage``: the share of problems with a correct sample;
        - ``distinct_correct``: mean over problems of the number of different canonical forms among correct samples;
        - ``beyond_majority``: the share of covered problems whose majority answer is wrong.

        The last two are null if the task has no canonical form, ``beyond_majority`` also if no problem is covered.
    """
    by_problem: dict[str, list[Line]] = {problem.id: [] for problem in problems}
    for sample in samples:
        by_problem[sample["problem_id"]].append(sample)

    def per_problem(value: Callable[[Sequence[Line]], float]) -> Floats:
        return np.array([value(by_problem[problem.id]) for problem in problems], dtype=np.float64)

    def mean(key: str) -> Floats:
        return per_problem(lambda lines: float(np.mean([line[key] for line in lines])))

    correct = per_problem(lambda lines: sum(line["verdict"] == "correct" for line in lines)).astype(np.int64)
    drawn = per_problem(len).astype(np.int64)
    if not (drawn == n).all():
        raise ValueError(f"every problem needs {n} samples, but some have {drawn.min()}")
    exact = samples[0]["entropy"] is not None
    entropy = mean("entropy" if exact else "entropy_topk")
    distinct, beyond = _diversity(task, problems, by_problem)
    verdicts = [line["verdict"] for line in samples]
    metrics = {f"pass@{k}": pass_at_k_per_problem(drawn, correct, k) for k in sorted(ks)}
    metrics |= {"entropy": entropy, "response_length": mean("tokens"), "coverage": (correct > 0).astype(np.float64)}
    bounds = {name: PROBABILITY for name in metrics if name.startswith("pass@") or name == "coverage"}
    if distinct is not None:
        metrics["distinct_correct"], bounds["distinct_correct"] = distinct, (0.0, float(n))
    intervals = {name: asdict(interval) for name, interval in mean_intervals(metrics, bounds=bounds).items()}
    return {
        "n": n,
        "k": sorted(ks),
        "problems": len(problems),
        "counts": [[problem.id, n, int(count)] for problem, count in zip(problems, correct, strict=True)],
        **{f"pass@{k}": intervals[f"pass@{k}"] for k in sorted(ks)},
        "entropy": intervals["entropy"] if exact else None,
        **({} if exact else {"entropy_topk": intervals["entropy"] | _topk_bounds(mean)}),
        "response_length": intervals["response_length"],
        "coverage": intervals["coverage"],
        "distinct_correct": intervals.get("distinct_correct"),
        "beyond_majority": _share(beyond),
        "verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
        "per_problem": {
            "problem_id": [problem.id for problem in problems],
            "entropy": entropy.tolist() if exact else [None] * len(problems),
            "distinct_correct": None if distinct is None else distinct.tolist(),
        },
        "interval": mean_interval_method(),
    }


def _topk_bounds(mean: Callable[[str], Floats]) -> dict[str, float]:
    return {"missing_mass": float(mean("missing_mass").mean()), "at_most": float(mean("entropy_at_most").mean())}


def _diversity(
    task: Task, problems: Sequence[Problem], by_problem: Mapping[str, Sequence[Line]]
) -> tuple[Floats | None, Floats | None]:
    """The number of different correct solutions of each problem (P,), and whether the majority answer of each covered
    problem is wrong. None where canonical forms are missing."""
    if not task.canonical_forms:
        return None, None
    distinct, beyond, all_have_forms = [], [], True
    for problem in problems:
        readable = [line for line in by_problem[problem.id] if line["verdict"] in READABLE]
        forms = {text: task.canonical(problem, text) for text in {line["text"] for line in readable}}
        answers = [(forms[line["text"]], line["verdict"] == "correct") for line in readable]
        solutions = {form for form, correct in answers if correct}
        if None in solutions:
            return None, None
        all_have_forms &= all(form is not None for form, _ in answers)
        distinct.append(len(solutions))
        if solutions:
            beyond.append(1.0 - majority_vote_accuracy(answers))
    return np.array(distinct, dtype=np.float64), np.array(beyond, dtype=np.float64) if all_have_forms else None


def _share(per_problem: Floats | None) -> dict[str, float] | None:
    if per_problem is None or not len(per_problem):
        return None
    return asdict(mean_interval(per_problem, bounds=PROBABILITY))
