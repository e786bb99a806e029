"""Compare trained policies with their base at other temperatures, a control that costs no training.

This is the only comparison across temperatures; everything else about the evaluations must agree. See
:mod:`progrpo_cli.metrics.frontier` for the line of temperatures and the computation.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from progrpo_cli.config import paths
from progrpo_cli.metrics.bootstrap import Interval
from progrpo_cli.metrics.frontier import Standing, measure_standing
from progrpo_cli.reporting.analysis.compare import group_by_split, preferred_splits
from progrpo_cli.reporting.analysis.dataset import Row
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.reading.record import Floats

TEMPERATURES = "0,0.3,0.6,1"
"""Temperatures of the command that a report suggests."""
MAX_SENTENCES = 8

BEYOND = "beyond any temperature"
ABOVE = "above the temperatures' line"
BELOW = "below the temperatures' line"
WITHIN = "within noise of the temperatures' line"

_CAPTION = (
    "The line: the largest Pass@k that the base reaches at a given Pass@1 with one temperature, or with two of which a "
    "coin toss chooses one for each problem; to the right of its last temperature it is extrapolated.",
    "height: the method's Pass@k minus the line at its Pass@1. margin: its Pass@1 minus that of the base's best "
    "temperature, including greedy (0), which has only Pass@1 and is not on the line. If the margin is significantly "
    "above 0, no temperature reaches the Pass@1, and there is no height.",
    "Intervals: bootstrap, 95 %; base and method share each draw of problems, in which the line and the best "
    "temperature are determined anew; seeds by Student's t. There is no correction for multiple comparisons.",
)
_ONE_SEED = "With one seed the interval and the verdict are about that policy, not about the method."


@dataclass(frozen=True)
class FrontierComparison:
    """A trained policy, or a method's seeds, compared with the temperatures of its base."""

    row: Row
    metric: str
    """The largest ``pass@K`` of the report that the row and all temperatures of its base have."""
    temperatures: tuple[Row, ...]
    """The base's rows that define the line, the lowest temperature first."""
    greedy: tuple[Row, ...]
    """The base's row at temperature 0, if any; it has only Pass@1."""
    standing: Standing
    seeds_beyond: int
    """How many single seeds have a margin whose interval lies above 0."""

    @property
    def verdict(self) -> str:
        """The position relative to the line, in words."""
        if self.standing.beyond:
            return BEYOND
        if self.standing.height.low > 0:
            return ABOVE
        return BELOW if self.standing.height.high < 0 else WITHIN

    @property
    def row_key(self) -> tuple[str, str, str]:
        """Name, task and split, unique in a report."""
        return self.row.name, self.row.task, self.row.split

    @property
    def at_equal_pass_1(self) -> str:
        """The base's temperatures on the line there, e.g. ``0.3`` or ``0.3 (40%) or 1 (60%)``.

        If no temperature reaches the Pass@1, it is the best temperature.
        """
        standing = self.standing
        if standing.beyond:
            return f"{_temperature((*self.temperatures, *self.greedy)[standing.best]):g}"
        left, right = (f"{_temperature(self.temperatures[index]):g}" for index in (standing.left, standing.right))
        if standing.left == standing.right or standing.share >= 1:
            return right
        return f"{left} ({1 - standing.share:.0%}) or {right} ({standing.share:.0%})"


def compare_with_temperatures(rows: Sequence[Row], passes: Sequence[str]) -> list[FrontierComparison]:
    """Compare every trained row whose base was evaluated at several temperatures in the same way.

    Args:
        rows: the rows of all tasks and splits.
        passes: the report's Pass@k, ascending.
    """
    comparisons = []
    for group in group_by_split(rows):
        for row in (row for row in group if not row.run.is_model):
            base_rows = base_temperatures(row, group)
            greedy = [base for base in base_rows if _temperature(base) == 0]
            sampled = [base for base in base_rows if _temperature(base) > 0]
            metric = _largest([row, *sampled], passes)
            if len(base_rows) > 1 and sampled and metric is not None:
                comparisons.append(_compare_row(row, sampled, greedy, metric))
    return comparisons


def base_temperatures(row: Row, rows: Sequence[Row]) -> list[Row]:
    """The base's rows that differ from a trained row only in temperature, the lowest temperature first.

    At temperature 0 top-p has no effect and may differ.
    """
    base_rows = [
        base
        for base in rows
        if base.run.is_model
        and base.run.identity.model == row.run.settings.get("model.path")
        and base.key.measure == row.key.measure
        and (_temperature(base) == 0 or _temperature(row) == 0 or base.key.sampling.top_p == row.key.sampling.top_p)
    ]
    return sorted(base_rows, key=_temperature)


def frontier_table(comparisons: Sequence[FrontierComparison]) -> Table:
    """One row per trained row with its position relative to the line, in numbers and in words."""
    records = []
    for item in comparisons:
        standing, row = item.standing, item.row
        height = (None, None, None) if standing.beyond else _numbers(standing.height)
        records.append(
            {
                "method": row.name,
                "task": row.task,
                "split": row.split,
                "seeds": len(row.evaluations),
                "k": int(item.metric.removeprefix("pass@")),
                "pass@1": round(standing.pass_1, 4),
                "pass@k": round(standing.pass_k, 4),
                "temperatures": ", ".join(f"{_temperature(base):g}" for base in (*item.greedy, *item.temperatures)),
                "best temperature": item.at_equal_pass_1,
                "verdict": item.verdict,
                "seeds beyond": item.seeds_beyond,
                **dict(zip(("height", "height_low", "height_high"), height, strict=True)),
                **dict(zip(("margin", "margin_low", "margin_high"), _numbers(standing.margin), strict=True)),
            }
        )
    table = pd.DataFrame(records)
    measured = [f"{name}{part}" for name in ("height", "margin") for part in ("", "_low", "_high")]
    table[measured] = table[measured].astype(float)
    caption = (*_CAPTION, *([_ONE_SEED] if any(len(item.row.evaluations) == 1 for item in comparisons) else []))
    return Table("frontier", "Against the base's temperatures", table, ("height", "margin"), None, caption)


def sentences(comparisons: Sequence[FrontierComparison]) -> list[str]:
    """One sentence per trained row, and the number of rows beyond ``MAX_SENTENCES``."""
    texts = [_sentence(item) for item in comparisons[:MAX_SENTENCES]]
    if len(comparisons) > MAX_SENTENCES:
        texts.append(f"{len(comparisons) - MAX_SENTENCES} more rows are in the table against the base's temperatures.")
    return texts


def missing_controls(rows: Sequence[Row]) -> list[str]:
    """A sentence, with the command to run, for each task whose base was not evaluated at several temperatures."""
    texts: dict[str, None] = {}
    for group in preferred_splits(rows):
        for row in (row for row in group if not row.run.is_model):
            if len(base_temperatures(row, group)) < 2:
                texts.setdefault(
                    f"{row.task} ({row.split}): there is no temperature control, so the base at another temperature "
                    f"may do as well as the trained policies; run `{_command(row)}`.",
                    None,
                )
    return list(texts)


def matched_by_base(comparisons: Sequence[FrontierComparison]) -> dict[tuple[str, str, str], str]:
    """Row key -> a remark, for each row that is not better than the base's temperatures."""
    return {
        item.row_key: f"a temperature of the base does as well in pass@1 and {item.metric}"
        for item in comparisons
        if not item.standing.better
    }


def _sentence(item: FrontierComparison) -> str:
    standing, row = item.standing, item.row
    where = f"{row.task} ({row.split}): {row.name}"
    about = " (one seed, so about this policy and not the method)" if len(row.evaluations) == 1 else ""
    margin, height = standing.margin, standing.height
    if standing.beyond:
        best = f"temperature {item.at_equal_pass_1}"
        text = f"its pass@1 of {standing.pass_1:.3f} is {_format(margin)} above that of the base's best, {best}"
    else:
        line = standing.pass_k - height.value
        text = (
            f"at its pass@1 of {standing.pass_1:.3f} the line is at {line:.3f} in {item.metric} "
            f"(temperature {item.at_equal_pass_1}), and {row.name} at {standing.pass_k:.3f}: {_format(height)}"
        )
        if margin.value > 0:
            text += f"; its pass@1 differs by {_format(margin)} from that of the best temperature, perhaps by chance"
    return f"{where}{about} is {item.verdict}: {text}."


def _format(interval: Interval) -> str:
    value, low, high = _numbers(interval)
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _compare_row(row: Row, sampled: Sequence[Row], greedy: Sequence[Row], metric: str) -> FrontierComparison:
    base_pass_1, base_pass_k = (np.stack([_seed_mean(base, name) for base in sampled]) for name in ("pass@1", metric))
    greedy_pass_1 = np.stack([_seed_mean(base, "pass@1") for base in greedy]) if greedy else None
    pass_1, pass_k = row.values("pass@1"), row.values(metric)
    assert pass_1 is not None
    assert pass_k is not None
    standing = measure_standing(base_pass_1, base_pass_k, pass_1, pass_k, greedy_pass_1=greedy_pass_1)
    seeds_beyond = 0
    if standing.margin.value > 0:
        seeds_beyond = sum(
            measure_standing(base_pass_1, base_pass_k, one[None], many[None], greedy_pass_1=greedy_pass_1).beyond
            for one, many in zip(pass_1, pass_k, strict=True)
        )
    return FrontierComparison(row, metric, tuple(sampled), tuple(greedy), standing, seeds_beyond)


def _seed_mean(row: Row, metric: str) -> Floats:
    """(P,) means over a row's seeds."""
    values = row.values(metric)
    assert values is not None
    mean: Floats = values.mean(axis=0)
    return mean


def _largest(rows: Sequence[Row], passes: Sequence[str]) -> str | None:
    """The largest Pass@k with k above 1 that all rows have."""
    for metric in reversed(passes):
        if metric != "pass@1" and all(row.values(metric) is not None for row in rows):
            return metric
    return None


def _temperature(row: Row) -> float:
    return row.key.sampling.temperature


def _command(row: Row) -> str:
    options = []
    if row.split != "test":
        options += ["--split", "train" if row.split == "rl" else row.split]
    if row.task != "countdown" and row.task in paths.names(paths.EXPERIMENTS / "task"):
        options += ["--tasks", row.task]
    if row.key.measure.backend == "vllm":
        options += ["--backend", "vllm"]
    model = str(row.run.settings.get("model.path"))
    return shlex.join(["progrpo", "eval", model, *options, "--temperature", TEMPERATURES])
