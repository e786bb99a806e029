"""From samples to scores: ``scores.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from progrpo_cli.metrics.bootstrap import PROBABILITY, Bounds, over_problems, problems_method
from progrpo_cli.metrics.passk import Floats, pass_at_k_per_problem
from progrpo_cli.tasks.base import VERDICTS, Problem, Task


def score(
    samples: Sequence[Mapping[str, Any]], problems: Sequence[Problem], task: Task, *, n: int, ks: Sequence[int]
) -> dict[str, Any]:
    """Pass@k, entropy, distinct correct solutions and verdicts, with 95 % intervals over problems.

    Args:
        samples: the lines of ``samples.jsonl``: n for each problem.
        problems: the problems evaluated, in the order of the counts.
        task: has the canonical form of solutions.
        n: samples a problem.
        ks: the k of Pass@k, each at most n.

    Returns:
        ``counts`` [[problem_id, n, correct], ...]; ``pass@k``, ``entropy`` (nats; mean over samples of a sample's mean
        token entropy) and ``distinct_correct`` (mean over problems of the number of different canonical forms among
        the correct ones of n samples) as {value, low, high}; ``verdicts``; and ``per_problem``, the means that the
        intervals are made from. ``distinct_correct`` is null where the task has no canonical form.
    """
    of_problem: dict[str, list[Mapping[str, Any]]] = {problem.id: [] for problem in problems}
    for sample in samples:
        of_problem[sample["problem_id"]].append(sample)
    correct = np.array([sum(s["verdict"] == "correct" for s in of_problem[p.id]) for p in problems])
    drawn = np.array([len(of_problem[p.id]) for p in problems])
    if not (drawn == n).all():
        raise ValueError(f"every problem needs {n} samples; some have {drawn.min()}")
    entropy = np.array([np.mean([s["entropy"] for s in of_problem[p.id]]) for p in problems])
    distinct = _distinct_correct(task, problems, of_problem)
    verdicts = [s["verdict"] for s in samples]
    return {
        "n": n,
        "k": sorted(ks),
        "problems": len(problems),
        "counts": [[p.id, n, int(right)] for p, right in zip(problems, correct, strict=True)],
        **{f"pass@{k}": _interval(pass_at_k_per_problem(drawn, correct, k), PROBABILITY) for k in sorted(ks)},
        "entropy": _interval(entropy),
        "distinct_correct": None if distinct is None else _interval(distinct, (0.0, float(n))),
        "verdicts": {verdict: verdicts.count(verdict) for verdict in VERDICTS},
        "per_problem": {
            "problem_id": [p.id for p in problems],
            "entropy": entropy.tolist(),
            "distinct_correct": None if distinct is None else distinct.tolist(),
        },
        "interval": problems_method(),
    }


def _distinct_correct(
    task: Task, problems: Sequence[Problem], of_problem: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Floats | None:
    forms = [
        {task.canonical(problem, s["text"]) for s in of_problem[problem.id] if s["verdict"] == "correct"}
        for problem in problems
    ]
    if any(None in found for found in forms):
        return None
    return np.array([len(found) for found in forms], dtype=np.float64)


def _interval(per_problem: Floats, bounds: Bounds | None = None) -> dict[str, float]:
    interval = over_problems(per_problem, bounds=bounds)
    return {"value": interval.value, "low": interval.low, "high": interval.high}
