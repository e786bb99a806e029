"""Trained policies against their base at other temperatures: the control that costs no training.

Only here are evaluations of several temperatures set against each other; all else about them has to agree. What is
computed, and what the line of temperatures is: :mod:`progrpo_cli.metrics.frontier`.
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
"""What a command that makes the control is told."""
MAX_SENTENCES = 8

BEYOND = "beyond any temperature"
ABOVE = "above the temperatures' line"
BELOW = "below the temperatures' line"
WITHIN = "within noise of the temperatures' line"

_CAPTION = (
    "The line: the largest Pass@k that the base reaches at a given Pass@1 by a temperature, or by two of which a coin "
    "chooses one for each problem; right of its last temperature it goes on as it came.",
    "height: the method's Pass@k less the line at its Pass@1. margin: its Pass@1 less that of the base's best "
    "temperature, greedy (0) among them, which has Pass@1 alone and is not on the line; where the margin is above 0 "
    "beyond noise no temperature reaches the Pass@1, and there is no height.",
    "Intervals: bootstrap, 95 %; in each draw of problems, the same for base and method, the line and the "
    "best temperature are found anew; seeds by Student's t. They are not corrected for their number.",
)
_ONE_SEED = "With one seed the interval and the words are about that policy, not about the method."


@dataclass(frozen=True)
class FrontierComparison:
    """A trained policy, or a method's seeds, and the temperatures of its base."""

    row: Row
    metric: str
    """``pass@K``: the largest of the report that the row and all temperatures of its base have."""
    temperatures: tuple[Row, ...]
    """The base's rows that the line is drawn from, the coldest first."""
    greedy: tuple[Row, ...]
    """The base's row at temperature 0, if there is one: it has Pass@1 alone."""
    standing: Standing
    seeds_beyond: int
    """How many of the seeds have, each alone, a margin whose interval lies above 0."""

    @property
    def verdict(self) -> str:
        """Where it lies, in words."""
        if self.standing.beyond:
            return BEYOND
        if self.standing.height.low > 0:
            return ABOVE
        return BELOW if self.standing.height.high < 0 else WITHIN

    @property
    def place(self) -> tuple[str, str, str]:
        """Name, task and split: unique in a report."""
        return self.row.name, self.row.task, self.row.split

    @property
    def at_equal_pass_1(self) -> str:
        """What of the base reaches the line there: ``0.3``, or ``0.3 (40%) or 1 (60%)``; beyond it the best."""
        standing = self.standing
        if standing.beyond:
            return f"{_temperature((*self.temperatures, *self.greedy)[standing.best]):g}"
        left, right = (f"{_temperature(self.temperatures[place]):g}" for place in (standing.left, standing.right))
        if standing.left == standing.right or standing.share >= 1:
            return right
        return f"{left} ({1 - standing.share:.0%}) or {right} ({standing.share:.0%})"


def compare_with_temperatures(rows: Sequence[Row], passes: Sequence[str]) -> list[FrontierComparison]:
    """Every trained row whose base was evaluated at several temperatures, and otherwise alike.

    Args:
        rows: of all tasks and splits.
        passes: the report's Pass@k, ascending.
    """
    compared = []
    for column in group_by_split(rows):
        for row in (row for row in column if not row.run.is_model):
            every = base_temperatures(row, column)
            sampled = [each for each in every if _temperature(each) > 0]
            metric = _largest([row, *sampled], passes)
            if len(every) > 1 and sampled and metric is not None:
                compared.append(_compared(row, sampled, [each for each in every if _temperature(each) == 0], metric))
    return compared


def base_temperatures(row: Row, rows: Sequence[Row]) -> list[Row]:
    """The base's rows that differ from a trained row in temperature alone, the coldest first.

    At temperature 0 top-p changes nothing.
    """
    of_base = [
        each
        for each in rows
        if each.run.is_model
        and each.run.identity.model == row.run.settings.get("model.path")
        and each.key.measure == row.key.measure
        and (_temperature(each) == 0 or _temperature(row) == 0 or each.key.sampling.top_p == row.key.sampling.top_p)
    ]
    return sorted(of_base, key=_temperature)


def frontier_table(compared: Sequence[FrontierComparison]) -> Table:
    """A row a trained row: where it stands to the line, in numbers and in words."""
    records = []
    for each in compared:
        standing, row = each.standing, each.row
        height = (None, None, None) if standing.beyond else _ends(standing.height)
        records.append(
            {
                "method": row.name,
                "task": row.task,
                "split": row.split,
                "seeds": len(row.evaluations),
                "k": int(each.metric.removeprefix("pass@")),
                "pass@1": round(standing.pass_1, 4),
                "pass@k": round(standing.pass_k, 4),
                "temperatures": ", ".join(f"{_temperature(row):g}" for row in (*each.greedy, *each.temperatures)),
                "best temperature": each.at_equal_pass_1,
                "verdict": each.verdict,
                "seeds beyond": each.seeds_beyond,
                **dict(zip(("height", "height_low", "height_high"), height, strict=True)),
                **dict(zip(("margin", "margin_low", "margin_high"), _ends(standing.margin), strict=True)),
            }
        )
    table = pd.DataFrame(records)
    measured = [f"{name}{part}" for name in ("height", "margin") for part in ("", "_low", "_high")]
    table[measured] = table[measured].astype(float)
    caption = (*_CAPTION, *([_ONE_SEED] if any(len(each.row.evaluations) == 1 for each in compared) else []))
    return Table("frontier", "Against the base's temperatures", table, ("height", "margin"), None, caption)


def sentences(compared: Sequence[FrontierComparison]) -> list[str]:
    """A sentence a trained row, and how many more there are."""
    said = [_sentence(each) for each in compared[:MAX_SENTENCES]]
    if len(compared) > MAX_SENTENCES:
        said.append(f"{len(compared) - MAX_SENTENCES} more rows stand in the table against the base's temperatures.")
    return said


def missing_controls(rows: Sequence[Row]) -> list[str]:
    """For each task whose base was not evaluated at several temperatures that it was not, and the command for it."""
    said: dict[str, None] = {}
    for column in preferred_splits(rows):
        for row in (row for row in column if not row.run.is_model):
            if len(base_temperatures(row, column)) < 2:
                said.setdefault(
                    f"{row.task} ({row.split}): no temperature control was made, so a temperature of the base may do "
                    f"as well as what was trained; `{_command(row)}` makes it.",
                    None,
                )
    return list(said)


def matched_by_base(compared: Sequence[FrontierComparison]) -> dict[tuple[str, str, str], str]:
    """For each row that is not beyond the base's temperatures what has to be said where it leads."""
    return {
        each.place: f"a temperature of the base does as well in pass@1 and {each.metric}"
        for each in compared
        if not each.standing.better
    }


def _sentence(each: FrontierComparison) -> str:
    standing, row = each.standing, each.row
    where = f"{row.task} ({row.split}): {row.name}"
    about = ", one seed and so about this policy and not the method," if len(row.evaluations) == 1 else ""
    margin, height = standing.margin, standing.height
    if standing.beyond:
        best = f"temperature {each.at_equal_pass_1}"
        said = f"its pass@1 of {standing.pass_1:.3f} is {_shown(margin)} above that of the base's best, {best}"
    else:
        line = standing.pass_k - height.value
        said = (
            f"at its pass@1 of {standing.pass_1:.3f} the line is at {line:.3f} in {each.metric} "
            f"(temperature {each.at_equal_pass_1}), and {row.name} at {standing.pass_k:.3f}: {_shown(height)}"
        )
        if margin.value > 0:
            said += f"; its pass@1 is {_shown(margin)} from the best temperature's, which may be chance"
    return f"{where}{about} is {each.verdict}: {said}."


def _shown(interval: Interval) -> str:
    value, low, high = _ends(interval)
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _compared(row: Row, sampled: Sequence[Row], greedy: Sequence[Row], metric: str) -> FrontierComparison:
    base_pass_1, base_pass_k = (np.stack([_mean(each, which) for each in sampled]) for which in ("pass@1", metric))
    greedy_pass_1 = np.stack([_mean(each, "pass@1") for each in greedy]) if greedy else None
    first, last = row.values("pass@1"), row.values(metric)
    assert first is not None
    assert last is not None
    standing = measure_standing(base_pass_1, base_pass_k, first, last, greedy_pass_1=greedy_pass_1)
    alone = 0
    if standing.margin.value > 0:
        seeds = (slice(seed, seed + 1) for seed in range(len(first)))
        alone = sum(
            measure_standing(base_pass_1, base_pass_k, first[s], last[s], greedy_pass_1=greedy_pass_1).beyond
            for s in seeds
        )
    return FrontierComparison(row, metric, tuple(sampled), tuple(greedy), standing, alone)


def _mean(row: Row, metric: str) -> Floats:
    """(P,) the mean over a row's seeds."""
    values = row.values(metric)
    assert values is not None
    mean: Floats = values.mean(axis=0)
    return mean


def _largest(rows: Sequence[Row], passes: Sequence[str]) -> str | None:
    """The largest Pass@k that all have, above Pass@1."""
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
