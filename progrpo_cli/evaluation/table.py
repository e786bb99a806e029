"""The tables printed after an evaluation: a policy's metrics beside those of its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from progrpo_cli.console import log
from progrpo_cli.evaluation.scores_file import (
    N_DEPENDENT_METRICS,
    Interval,
    Scores,
    describe_differences,
    describe_missing_fields,
    short_error,
)
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.untrusted import MEDIUM, read_bytes

if TYPE_CHECKING:
    from rich.table import Table

UNITS = {"entropy": " (nats)", "entropy_topk": " (nats, a lower bound)", "response_length": " (tokens)"}


def result_tables(scores: Sequence[Scores], base_run: Callable[[str], Path]) -> Iterator[Table | str]:
    """For each policy and task a table, its files, and how to evaluate the base in the same way if that is missing.

    Args:
        scores: the scores to show, those of one policy and task in sequence.
        base_run: base -> the directory under ``runs/`` with its evaluations.
    """
    for _, group in groupby(scores, lambda item: (Path(item.eval_dir).parent, item.task)):
        pairs: list[tuple[Scores, Scores | None]] = []
        without_base: list[tuple[Scores, str]] = []
        for policy in group:
            base, difference = comparable_base(policy, base_run(policy.base)) if policy.base else (None, "")
            pairs.append((policy, base))
            if policy.base and base is None:
                without_base.append((policy, difference))
        single = len(pairs) == 1
        yield comparison_table(*pairs[0]) if single else temperature_table(pairs)
        yield from (f"{policy.eval_dir}/scores.json, samples.jsonl" for policy, _ in pairs)
        if without_base:
            first, difference = without_base[0]
            but = f" (but with {difference})" if difference and single else ""
            split = "" if first.split == "test" else f" --split {first.split}"
            temperatures = ",".join(f"{policy.temperature:g}" for policy, _ in without_base)
            option = "" if single else f" --temperature {temperatures}"
            yield f"the base was not evaluated like this{but}: progrpo eval {first.base}{split}{option}"


def comparable_base(scores: Scores, base_run: Path) -> tuple[Scores | None, str]:
    """Find the evaluation of the base that can be compared with ``scores``.

    One with the same n is preferred, then the largest n, then the newest.

    Args:
        scores: the scores of the trained policy.
        base_run: the directory under ``runs/`` with the base's evaluations.

    Returns:
        The base's scores, or None with a description of how the most similar evaluation of the base differs; it is
        empty if the base was not evaluated on the task and split.
    """
    candidates = [base for path in RunDirectory(base_run).scores_files() if (base := _read(path)) is not None]
    comparable = [base for base in candidates if base.key.comparable(scores.key)]
    if comparable:
        return max(comparable, key=lambda base: (base.n == scores.n, base.n, base.scored_at)), ""
    differences = [
        describe_differences(base.key, scores.key, len(base.counts), len(scores.counts))
        for base in candidates
        if (base.task, base.split) == (scores.task, scores.split)
    ]
    return None, min(differences, key=lambda text: text.count(","), default="")


def _read(path: Path) -> Scores | None:
    try:
        return Scores.model_validate_json(read_bytes(path, MEDIUM))
    except ValidationError as error:
        log.warning(f"{path} is damaged and left out: {short_error(error)}")
        return None
    except OSError as error:
        log.warning(f"left out: {error}")
        return None


def comparison_table(scores: Scores, base: Scores | None) -> Table:
    """One row per metric with 95 % intervals, and with a base the paired differences of Pass@k."""
    from rich.table import Table

    name = f"{scores.method} ({scores.policy})" if scores.method else scores.policy
    title = f"{scores.task} ({scores.split}): {len(scores.counts)} problems, n = {scores.n}"
    caption = f"Intervals: {scores.interval}"
    same_n = base is not None and base.n == scores.n
    if base is not None and (missing_fields := describe_missing_fields([scores.key.measure, base.key.measure])):
        caption += f"; assumed to be equal because a file does not state it: {missing_fields}"
    table = Table(title=title, caption=caption)
    base_column = "base" if same_n or base is None else f"base (n = {base.n})"
    for column in ("", *([base_column] if base else []), name, *(["difference"] if base else [])):
        table.add_column(column)
    base_metrics = base.metrics() if base else {}
    differences = _differences(scores, base) if base else {}
    for metric, value in scores.metrics().items():
        base_value = base_metrics.get(metric) if same_n or metric not in N_DEPENDENT_METRICS else None
        base_cells = [_cell(base_value)] if base else []
        difference_cells = [_cell(differences.get(metric), sign="+")] if base else []
        table.add_row(metric + UNITS.get(metric, ""), *base_cells, _cell(value), *difference_cells)
    return table


def temperature_table(pairs: Sequence[tuple[Scores, Scores | None]]) -> Table:
    """One row per temperature and one column per metric with 95 % intervals.

    Metrics that depend on n, such as the number of distinct solutions, are only in ``scores.json``: greedy has n = 1.

    Args:
        pairs: the scores of one policy and task, each with those of the base at its temperature or None.
    """
    from rich.table import Table

    first = pairs[0][0]
    policy_name = f"{first.method} ({first.policy})" if first.method else first.policy
    counts = " or ".join(map(str, sorted({scores.n for scores, _ in pairs})))
    title = f"{first.task} ({first.split}): {len(first.counts)} problems, n = {counts}"
    caption = f"Intervals: {first.interval}"
    if any(scores.temperature == 0 for scores, _ in pairs):
        caption += "; temperature 0 is greedy: one sample per problem, only Pass@1"
    names = dict.fromkeys(metric for scores, _ in pairs for metric in scores.metrics())
    passes = sorted((name for name in names if name.startswith("pass@")), key=lambda name: int(name.split("@")[1]))
    metrics = [*passes, *(name for name in names if name not in passes and name not in N_DEPENDENT_METRICS)]
    table = Table(title=title, caption=caption)
    for column in ("temperature", "", *(metric + UNITS.get(metric, "") for metric in metrics)):
        table.add_column(column)
    for scores, base in sorted(pairs, key=lambda pair: pair[0].temperature):
        rows = {"base": base.metrics()} if base else {}
        rows[policy_name] = scores.metrics()
        for label, values in rows.items():
            table.add_row(f"{scores.temperature:g}", label, *(_cell(values.get(metric)) for metric in metrics))
        if base:
            differences = _differences(scores, base)
            table.add_row("", "difference", *(_cell(differences.get(metric), sign="+") for metric in metrics))
    return table


def _differences(scores: Scores, base: Scores) -> dict[str, Interval]:
    """Policy minus base, paired over problems, for each k that both were scored with."""
    import numpy as np

    from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed_bootstrap
    from progrpo_cli.metrics.passk import pass_at_k_per_problem

    ids = [problem for problem, _, _ in base.counts]
    groups = {}
    intervals = {}
    for k in sorted(set(scores.k) & set(base.k)):
        for name, group in (("policy", scores), ("base", base)):
            correct_by_problem = {problem: correct for problem, _, correct in group.counts}
            correct = np.array([correct_by_problem[problem] for problem in ids])
            groups[name] = pass_at_k_per_problem(np.full(len(ids), group.n), correct, k)[None, :]
        difference = crossed_bootstrap(groups, bounds=PROBABILITY, baseline="base")["policy"].difference
        assert difference is not None
        intervals[f"pass@{k}"] = Interval(value=difference.value, low=difference.low, high=difference.high)
    return intervals


def _cell(value: Interval | None, sign: str = "") -> str:
    if value is None:
        return ""
    digits = ".3f" if abs(value.high) < 100 else ".1f"
    mean, low, high = (format(part, sign + digits) for part in (value.value, value.low, value.high))
    return f"{mean} [{low}, {high}]"
