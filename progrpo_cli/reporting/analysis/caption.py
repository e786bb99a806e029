"""What has to stand under a table so that its numbers can be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from progrpo_cli.metrics.bootstrap import ENOUGH_SEEDS, crossed_bootstrap_method
from progrpo_cli.reporting.analysis.comparability import footnotes
from progrpo_cli.reporting.analysis.compare import group_by_split, one_seed
from progrpo_cli.reporting.analysis.dataset import Row
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns

FEW_SEEDS = 5
"""Below this many seeds captions say so: how seeds vary is then assumed rather than seen (docs/statistics.md)."""


def caption(rows: Sequence[Row], loaded: LoadedRuns) -> list[str]:
    """Sources, what was measured and how, and the caveats: a sentence each."""
    run_ids = dict.fromkeys(e.run.record.id for row in rows for e in row.evaluations)
    sentences = [f"Sources: {read_from(run_ids, loaded)}."]
    for column in group_by_split(rows):
        first = column[0].evaluations[0]
        same = f"{len(first.problem_ids)} problems, n = {_listed(row.n for row in column)} samples a problem, "
        same += f"temperature {_listed(row.key.sampling.temperature for row in column)}"
        mixed = any(row.footnote for row in column)
        measured = "NOT measured alike, see the brackets behind the names" if mixed else same
        sentences.append(f"{first.task} ({first.split}): {measured}; {describe_seeds(column)} a row.")
        sentences += footnotes([e for row in column for e in row.evaluations])
    sentences.append(f"Intervals: {crossed_bootstrap_method()}. Entropy in nats at the sampling temperature.")
    if has_few_seeds(rows):
        sentences.append(
            f"Fewer than {FEW_SEEDS} seeds in some rows: their intervals lean on seeds being normal around the method."
        )
    sentences += seed_caveats(rows)
    if any(row.split == "validation" for row in rows):
        sentences.append("Validation split: what settings were chosen on; not a final result.")
    if any(row.split == "rl" for row in rows):
        sentences.append("Split rl: the problems that training drew from; no result about new ones.")
    return sentences


def seed_caveats(rows: Sequence[Row]) -> list[str]:
    """What is not known of methods with one or two seeds: a sentence each, none where there are none."""
    sentences = []
    if one_seed(rows):
        sentences.append(
            "One seed a method in some rows: their intervals and differences are about these policies, and nothing is "
            "tested about the methods."
        )
    if any(1 < len(row.evaluations) < ENOUGH_SEEDS and not row.run.is_model for row in rows):
        sentences.append(
            f"Too few seeds in some rows: with fewer than {ENOUGH_SEEDS} an interval may hold the method's value less "
            "often than it says."
        )
    return sentences


def has_few_seeds(rows: Iterable[Row]) -> bool:
    """Whether some trained method has fewer than ``FEW_SEEDS``."""
    return any(len(row.evaluations) < FEW_SEEDS and not row.run.is_model for row in rows)


def read_from(run_ids: Iterable[str], loaded: LoadedRuns) -> str:
    """``3 runs read from runs (run directories); ...``."""
    counts = Counter(loaded.origin[run_id] for run_id in run_ids)
    return "; ".join(f"{count} run{'s' if count > 1 else ''} read from {place}" for place, count in counts.items())


def describe_seeds(rows: Sequence[Row]) -> str:
    """``3 seeds`` or ``1 to 3 seeds``: those of trained methods, since a model that is no run of ours has none."""
    counts = [len(row.evaluations) for row in rows if not row.run.is_model] or [1]
    span = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{span} seed{'s' if max(counts) > 1 else ''}"


def _listed(values: Iterable[float]) -> str:
    """``1``, or ``0.5, 1 or 1.5``."""
    *others, last = [f"{value:g}" for value in sorted(set(values))]
    return f"{', '.join(others)} or {last}" if others else last
