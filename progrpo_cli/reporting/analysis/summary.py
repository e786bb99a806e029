"""The findings of a report in words, and its caveats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from progrpo_cli.reporting.analysis.budgets import budget_caveats
from progrpo_cli.reporting.analysis.caption import FEW_SEEDS, describe_seeds, has_few_seeds, seed_caveats
from progrpo_cli.reporting.analysis.compare import comparable_groups, has_single_seed, preferred_splits
from progrpo_cli.reporting.analysis.dataset import Dataset, Row
from progrpo_cli.reporting.analysis.frontier import FrontierComparison, matched_by_base, missing_controls
from progrpo_cli.reporting.analysis.frontier import sentences as frontier_sentences
from progrpo_cli.reporting.analysis.main_table import UNRANKED_METRICS
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.analysis.views import is_missing, to_records

LEVEL = 0.05
MAX_NAMED = 4
"""How many policies are named if the methods cannot be tested."""


def findings(dataset: Dataset, main: Table, comparisons: Sequence[FrontierComparison] = ()) -> list[str]:
    """Sentences: for each task and metric the best row and whether its lead is significant, then the differences to the
    baseline, then the comparisons with the base's temperatures.

    No policy is called better if a temperature of its base does as well, and a missing temperature control is named.
    """
    remarks = matched_by_base(comparisons)
    records = to_records(main.frame)
    index_of = {(r["method"], r["task"], r["split"]): index for index, r in enumerate(records)}
    sentences = []
    for rows in (rows for group in preferred_splits(dataset.rows) for rows in comparable_groups(group)):
        where = f"{rows[0].task} ({rows[0].split}{rows[0].brackets})"
        indices = [index_of[row.name, row.task, row.split] for row in rows]
        for metric in _ranked_metrics(main):
            ranked = [index for index in indices if not is_missing(records[index][metric])]
            if not ranked:
                continue
            ranked.sort(key=lambda index: _to_float(records[index][metric]), reverse=True)
            first = ranked[0]
            sentence = f"{where}: {records[first]['method']} has the highest {metric}, {records[first][metric]:.3f}"
            if has_single_seed([row for row in rows if row.name in [records[i]["method"] for i in ranked[:2]]]):
                sentences.append(
                    f"{where}: {_list_values(records, ranked[:MAX_NAMED], metric)}. These values are about single "
                    "policies: with one seed per method, methods are not tested."
                )
                continue
            if len(ranked) > 1:
                significant = (first, metric) in main.best
                remark = remarks.get((str(records[first]["method"]), rows[0].task, rows[0].split))
                if significant and remark:
                    sentence += f"; this is no gain over the base: {remark}"
                elif significant:
                    sentence += "; the interval of its lead over the second excludes 0"
                else:
                    sentence += "; its lead may be chance"
            sentences.append(f"{sentence}.")
        sentences += _difference_sentences(where, [records[index] for index in indices], main, remarks)
    shown = {(row.task, row.split) for group in preferred_splits(dataset.rows) for row in group}
    sentences += frontier_sentences([item for item in comparisons if (item.row.task, item.row.split) in shown])
    return sentences + missing_controls(dataset.rows) + how_to_read(main.metrics)


def how_to_read(metrics: Sequence[str]) -> list[str]:
    """A sentence about Pass@1 and the largest Pass@k of a table; empty if it lacks one of them."""
    larger = max((int(name.removeprefix("pass@")) for name in metrics if name.startswith("pass@")), default=1)
    if "pass@1" not in metrics or larger == 1:
        return []
    return [
        f"How to read it: pass@1 is how often one answer is right, pass@{larger} how often at least one of {larger} "
        "answers is right; a method that only sharpens what the base can do gains the first and loses the second."
    ]


def caveats(dataset: Dataset, main: Table, notes: Sequence[str]) -> list[str]:
    """The limits of the conclusions that a report allows, one sentence each."""
    rows = [row for group in preferred_splits(dataset.rows) for row in group]
    sentences = []
    if has_few_seeds(rows):
        sentences.append(
            f"{describe_seeds(rows).capitalize()} per method, fewer than {FEW_SEEDS}: intervals assume that seeds are "
            "normally distributed around the method."
        )
    sentences += seed_caveats(rows)
    if any(row.split != "test" for row in rows):
        sentences.append(
            "Some tasks have no test split here: results on a split that settings were chosen on are biased."
        )
    if any(row.split == "rl" for row in rows):
        sentences.append("Some tasks have only training problems here: they say nothing about new problems.")
    tasks = sorted({row.task for row in rows})
    models = sorted({str(row.run.settings.get("model.path")) for row in rows if not row.run.is_model})
    if len(tasks) == 1:
        sentences.append(f"One task, {tasks[0]}: the results may not hold for others.")
    if len(models) == 1:
        sentences.append(f"One model, {models[0]}: the results may not hold for others.")
    if any(row.footnote for row in dataset.rows):
        sentences.append("Some rows were not measured in the same way (see the brackets after their names).")
    sentences += budget_caveats(rows)
    if _has_sweep(rows):
        sentences.append("Several settings of one method are compared: the best of them looks better than it is.")
    if main.baseline is not None and any(main.frame[f"{metric}_diff_p"].notna().any() for metric in main.metrics):
        sentences.append(
            "p values are corrected within a task and split, but not over tasks, other metrics or repeated looks at "
            "the data."
        )
    elif main.baseline is None:
        sentences.append("There is no baseline among the rows, so no differences were tested.")
    if notes:
        sentences.append(f"The notes below have {len(notes)} remarks about what was read or left out.")
    return sentences


def _difference_sentences(
    where: str, records: Sequence[dict[str, object]], main: Table, remarks: Mapping[tuple[str, str, str], str]
) -> list[str]:
    if main.baseline is None:
        return []
    tested = [
        (r, metric) for r in records for metric in _ranked_metrics(main) if not is_missing(r[f"{metric}_diff_p_holm"])
    ]
    if not tested:
        return []
    significant = [(r, metric) for r, metric in tested if _to_float(r[f"{metric}_diff_p_holm"]) <= LEVEL]
    listed = "; ".join(
        f"{r['method']} {_to_float(r[f'{metric}_diff']):+.3f} in {metric}{_base_remark(r, metric, remarks)}"
        for r, metric in significant
    )
    return [
        f"{where}: {len(significant)} of {len(tested)} differences to {main.baseline} have a corrected p <= {LEVEL}"
        f"{f': {listed}' if significant else ''}."
    ]


def _list_values(records: Sequence[dict[str, object]], indices: Sequence[int], metric: str) -> str:
    values = (f"{records[index]['method']} {_to_float(records[index][metric]):.3f}" for index in indices)
    return f"{metric} {', '.join(values)}"


def _base_remark(record: dict[str, object], metric: str, remarks: Mapping[tuple[str, str, str], str]) -> str:
    """The remark about the better of the row and its baseline, in parentheses; empty if there is none."""
    better = record["method"] if _to_float(record[f"{metric}_diff"]) > 0 else record["baseline"]
    remark = remarks.get((str(better), str(record["task"]), str(record["split"])))
    return f" (no gain of {better} over the base: {remark})" if remark else ""


def _ranked_metrics(main: Table) -> list[str]:
    return [metric for metric in main.metrics if metric not in UNRANKED_METRICS]


def _to_float(value: object) -> float:
    return float(str(value))


def _has_sweep(rows: Sequence[Row]) -> bool:
    methods = [(row.task, row.run.method) for row in rows if not row.run.is_model]
    return len(set(methods)) < len(methods)
