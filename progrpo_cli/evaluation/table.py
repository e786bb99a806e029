"""The table at the end of an evaluation: a policy's numbers with the policy's that it was trained from beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from progrpo_cli.console import log
from progrpo_cli.evaluation.scores_file import (
    OF_ALL_SAMPLES,
    Interval,
    Scores,
    differences,
    first_error,
    unsaid_in_words,
)
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.untrusted import MEDIUM, read_bytes

if TYPE_CHECKING:
    from rich.table import Table

UNITS = {"entropy": " (nats)", "entropy_topk": " (nats, a lower bound)", "response_length": " (tokens)"}


def shown(scores: Sequence[Scores], base_run: Callable[[str], Path]) -> Iterator[Table | str]:
    """What is printed after an evaluation: a table a policy and task, its files, and how to evaluate the base alike.

    Args:
        scores: those of one policy and task one after the other, whatever their temperatures.
        base_run: the directory under ``runs/`` with the evaluations of a base.
    """
    for _, group in groupby(scores, lambda each: (Path(each.eval_dir).parent, each.task)):
        pairs: list[tuple[Scores, Scores | None]] = []
        without: list[tuple[Scores, str]] = []
        for each in group:
            beside, otherwise = base_beside(each, base_run(each.base)) if each.base else (None, "")
            pairs.append((each, beside))
            if each.base and beside is None:
                without.append((each, otherwise))
        alone = len(pairs) == 1
        yield table_of(*pairs[0]) if alone else table_of_temperatures(pairs)
        yield from (f"{each.eval_dir}/scores.json, samples.jsonl" for each, _ in pairs)
        if without:
            first, otherwise = without[0]
            but = f" (but with {otherwise})" if otherwise and alone else ""
            split = "" if first.split == "test" else f" --split {first.split}"
            at = "" if alone else f" --temperature {','.join(f'{each.temperature:g}' for each, _ in without)}"
            yield f"the base was not evaluated like this{but}: progrpo eval {first.base}{split}{at}"


def base_beside(scores: Scores, base_run: Path) -> tuple[Scores | None, str]:
    """The evaluation of the base, in its directory under ``runs/``, that can be compared with ``scores``.

    Of several the one with as many samples, else the one with the most; then the newest.

    Returns:
        It or None, and then in words how the base was evaluated instead, the nearest; empty if it was not.
    """
    every = [each for path in RunDirectory(base_run).scores_files() if (each := _read(path)) is not None]
    alike = [each for each in every if each.key.comparable(scores.key)]
    if alike:
        return max(alike, key=lambda each: (each.n == scores.n, each.n, each.scored_at)), ""
    of_task = [each for each in every if (each.task, each.split) == (scores.task, scores.split)]
    otherwise = [differences(each.key, scores.key, len(each.counts), len(scores.counts)) for each in of_task]
    return None, min(otherwise, key=lambda said: said.count(","), default="")


def _read(path: Path) -> Scores | None:
    try:
        return Scores.model_validate_json(read_bytes(path, MEDIUM))
    except ValidationError as error:
        log.warning(f"{path} is damaged and left out: {first_error(error)}")
        return None
    except OSError as error:
        log.warning(f"left out: {error}")
        return None


def table_of(scores: Scores, base: Scores | None) -> Table:
    """A row a metric with 95 % intervals; with a base also the paired difference of Pass@k."""
    from rich.table import Table

    name = f"{scores.method} ({scores.policy})" if scores.method else scores.policy
    title = f"{scores.task} ({scores.split}): {len(scores.counts)} problems, n = {scores.n}"
    caption = f"95 % intervals over problems, {scores.interval}"
    same_n = base is not None and base.n == scores.n
    if base is not None and (unsaid := unsaid_in_words([scores.key.measure, base.key.measure])):
        caption += f"; taken to be alike, though not both say it: {unsaid}"
    table = Table(title=title, caption=caption)
    of_base = "base" if same_n or base is None else f"base (n = {base.n})"
    for column in ("", *([of_base] if base else []), name, *(["difference"] if base else [])):
        table.add_column(column)
    its_metrics = base.metrics() if base else {}
    compared = _differences(scores, base) if base else {}
    for metric, value in scores.metrics().items():
        shown = its_metrics.get(metric) if same_n or metric not in OF_ALL_SAMPLES else None
        beside = [_cell(shown)] if base else []
        difference = [_cell(compared.get(metric), sign="+")] if base else []
        table.add_row(metric + UNITS.get(metric, ""), *beside, _cell(value), *difference)
    return table


def table_of_temperatures(pairs: Sequence[tuple[Scores, Scores | None]]) -> Table:
    """A row a temperature and a column a metric, with 95 % intervals; each with the base at its temperature, or None.

    What depends on n, as the number of different solutions, stands in ``scores.json`` alone: greedy has n = 1.
    """
    from rich.table import Table

    first = pairs[0][0]
    name = f"{first.method} ({first.policy})" if first.method else first.policy
    counts = " or ".join(map(str, sorted({scores.n for scores, _ in pairs})))
    title = f"{first.task} ({first.split}): {len(first.counts)} problems, n = {counts}"
    caption = f"95 % intervals over problems, {first.interval}"
    if any(scores.temperature == 0 for scores, _ in pairs):
        caption += "; temperature 0 is greedy: one sample a problem, Pass@1 alone"
    every = dict.fromkeys(metric for scores, _ in pairs for metric in scores.metrics())
    passes = sorted((m for m in every if m.startswith("pass@")), key=lambda m: int(m.split("@")[1]))
    metrics = [*passes, *(m for m in every if m not in passes and m not in OF_ALL_SAMPLES)]
    table = Table(title=title, caption=caption)
    for column in ("temperature", "", *(metric + UNITS.get(metric, "") for metric in metrics)):
        table.add_column(column)
    for scores, base in sorted(pairs, key=lambda pair: pair[0].temperature):
        measured = {"base": base.metrics()} if base else {}
        measured[name] = scores.metrics()
        for who, of_policy in measured.items():
            table.add_row(f"{scores.temperature:g}", who, *(_cell(of_policy.get(metric)) for metric in metrics))
        if base:
            compared = _differences(scores, base)
            table.add_row("", "difference", *(_cell(compared.get(metric), sign="+") for metric in metrics))
    return table


def _differences(scores: Scores, base: Scores) -> dict[str, Interval]:
    """Policy minus base, paired over problems, for each Pass@k that both were scored with."""
    import numpy as np

    from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed_bootstrap
    from progrpo_cli.metrics.passk import pass_at_k_per_problem

    ids = [problem for problem, _, _ in base.counts]
    groups = {}
    intervals = {}
    for k in sorted(set(scores.k) & set(base.k)):
        for name, each in (("policy", scores), ("base", base)):
            right = {problem: correct for problem, _, correct in each.counts}
            correct = np.array([right[problem] for problem in ids])
            groups[name] = pass_at_k_per_problem(np.full(len(ids), each.n), correct, k)[None, :]
        difference = crossed_bootstrap(groups, bounds=PROBABILITY, baseline="base")["policy"].difference
        assert difference is not None
        intervals[f"pass@{k}"] = Interval(value=difference.value, low=difference.low, high=difference.high)
    return intervals


def _cell(value: Interval | None, sign: str = "") -> str:
    if value is None:
        return ""
    digits = ".3f" if abs(value.high) < 100 else ".1f"
    shown = [format(part, sign + digits) for part in (value.value, value.low, value.high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"
