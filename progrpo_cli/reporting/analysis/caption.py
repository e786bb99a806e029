"""The captions of tables: sources, measurement and caveats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from progrpo_cli.metrics.bootstrap import ENOUGH_SEEDS, crossed_bootstrap_method
from progrpo_cli.reporting.analysis.comparability import footnotes
from progrpo_cli.reporting.analysis.compare import group_by_split, has_single_seed
from progrpo_cli.reporting.analysis.dataset import Row
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns

FEW_SEEDS = 5
"""With fewer seeds, captions warn that the spread of seeds is assumed rather than measured (docs/statistics.md)."""


def caption(rows: Sequence[Row], loaded: LoadedRuns) -> list[str]:
    """The sentences under a table: its sources, what was measured and how, and caveats."""
    run_ids = dict.fromkeys(e.run.record.id for row in rows for e in row.evaluations)
    sentences = [f"Sources: {describe_sources(run_ids, loaded)}."]
    for group in group_by_split(rows):
        first = group[0].evaluations[0]
        same = f"{len(first.problem_ids)} problems, n = {_list_values(row.n for row in group)} samples per problem, "
        same += f"temperature {_list_values(row.key.sampling.temperature for row in group)}"
        mixed = any(row.footnote for row in group)
        measured = "NOT measured in the same way, see the brackets after the names" if mixed else same
        sentences.append(f"{first.task} ({first.split}): {measured}; {describe_seeds(group)} per row.")
        sentences += footnotes([e for row in group for e in row.evaluations])
    sentences.append(f"Intervals: {crossed_bootstrap_method()}. Entropy in nats at the sampling temperature.")
    if has_few_seeds(rows):
        sentences.append(
            f"Fewer than {FEW_SEEDS} seeds in some rows: their intervals assume that seeds are normally distributed "
            "around the method."
        )
    sentences += seed_caveats(rows)
    if any(row.split == "validation" for row in rows):
        sentences.append("Validation split: settings were chosen on it, so these are not final results.")
    if any(row.split == "rl" for row in rows):
        sentences.append("Split rl: the problems used for training; no result about new problems.")
    return sentences


def seed_caveats(rows: Sequence[Row]) -> list[str]:
    """Sentences about methods with one or two seeds; empty if there are none."""
    sentences = []
    if has_single_seed(rows):
        sentences.append(
            "Some methods have one seed: their intervals and differences are about these policies, and the methods are "
            "not tested."
        )
    if any(1 < len(row.evaluations) < ENOUGH_SEEDS and not row.run.is_model for row in rows):
        sentences.append(
            f"Too few seeds in some rows: with fewer than {ENOUGH_SEEDS} an interval may contain the method's value "
            "less often than 95 %."
        )
    return sentences


def has_few_seeds(rows: Iterable[Row]) -> bool:
    """Whether some trained method has fewer than ``FEW_SEEDS``."""
    return any(len(row.evaluations) < FEW_SEEDS and not row.run.is_model for row in rows)


def describe_sources(run_ids: Iterable[str], loaded: LoadedRuns) -> str:
    """``3 runs read from runs (run directories); ...``."""
    counts = Counter(loaded.origin[run_id] for run_id in run_ids)
    return "; ".join(f"{count} run{'s' if count > 1 else ''} read from {source}" for source, count in counts.items())


def describe_seeds(rows: Sequence[Row]) -> str:
    """``3 seeds`` or ``1 to 3 seeds``, counting only trained methods: other models have no seeds."""
    counts = [len(row.evaluations) for row in rows if not row.run.is_model] or [1]
    span = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{span} seed{'s' if max(counts) > 1 else ''}"


def _list_values(values: Iterable[float]) -> str:
    """``1``, or ``0.5, 1 or 1.5``."""
    *others, last = [f"{value:g}" for value in sorted(set(values))]
    return f"{', '.join(others)} or {last}" if others else last
