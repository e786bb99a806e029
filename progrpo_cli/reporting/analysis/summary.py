"""What the numbers say, in words, and what a reviewer would object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from progrpo_cli.reporting.analysis.budgets import budget_caveats
from progrpo_cli.reporting.analysis.caption import FEW_SEEDS, describe_seeds, has_few_seeds, seed_caveats
from progrpo_cli.reporting.analysis.compare import alike, one_seed, preferred_splits
from progrpo_cli.reporting.analysis.dataset import Dataset, Row
from progrpo_cli.reporting.analysis.frontier import FrontierComparison, matched_by_base, missing_controls
from progrpo_cli.reporting.analysis.frontier import sentences as of_temperatures
from progrpo_cli.reporting.analysis.main_table import UNRANKED_METRICS
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.analysis.views import is_missing, to_records

LEVEL = 0.05
SHOWN = 4
"""So many policies are named where nothing is tested about methods."""


def findings(frame: Dataset, main: Table, compared: Sequence[FrontierComparison] = ()) -> list[str]:
    """A sentence a task and metric: who leads and whether beyond doubt, and which differences to the baseline are.

    Then where trained policies stand to their base's temperatures: none is called better where one of those does as
    well, and where there are none to compare with, that is said.
    """
    as_well = matched_by_base(compared)
    records = to_records(main.frame)
    number_of = {(r["method"], r["task"], r["split"]): index for index, r in enumerate(records)}
    sentences = []
    for rows in (group for column in preferred_splits(frame.rows) for group in alike(column)):
        where = f"{rows[0].task} ({rows[0].split}{rows[0].brackets})"
        indices = [number_of[row.name, row.task, row.split] for row in rows]
        for metric in _judged(main):
            measured = [index for index in indices if not is_missing(records[index][metric])]
            if not measured:
                continue
            measured.sort(key=lambda index: _value(records[index][metric]), reverse=True)
            first = measured[0]
            sentence = f"{where}: {records[first]['method']} has the highest {metric}, {records[first][metric]:.3f}"
            if one_seed([row for row in rows if row.name in [records[index]["method"] for index in measured[:2]]]):
                sentences.append(
                    f"{where}: {_listed(records, measured[:SHOWN], metric)}: of these policies. One seed a method: "
                    "nothing is tested about methods."
                )
                continue
            if len(measured) > 1:
                clear = (first, metric) in main.best
                doubt = "the interval of its lead over the next excludes 0" if clear else "its lead may be chance"
                remark = as_well.get((str(records[first]["method"]), rows[0].task, rows[0].split))
                if clear and remark:
                    doubt = f"that is no gain over the base: {remark}"
                sentence += f"; {doubt}"
            sentences.append(f"{sentence}.")
        sentences += _differences(where, [records[index] for index in indices], main, as_well)
    shown = {(row.task, row.split) for column in preferred_splits(frame.rows) for row in column}
    sentences += of_temperatures([each for each in compared if (each.row.task, each.row.split) in shown])
    return sentences + missing_controls(frame.rows) + how_to_read(main.metrics)


def how_to_read(metrics: Sequence[str]) -> list[str]:
    """The sentence on Pass@1 against the largest Pass@k of a table, where it has both."""
    larger = max((int(name.removeprefix("pass@")) for name in metrics if name.startswith("pass@")), default=1)
    if "pass@1" not in metrics or larger == 1:
        return []
    return [
        f"How to read it: pass@1 is how often one answer is right, pass@{larger} how often a right one is among "
        f"{larger}; a method that only sharpens what the base can do gains the first and loses the second."
    ]


def caveats(frame: Dataset, main: Table, notes: Sequence[str]) -> list[str]:
    """What keeps these numbers from meaning more."""
    rows = [row for column in preferred_splits(frame.rows) for row in column]
    found = []
    if has_few_seeds(rows):
        found.append(
            f"{describe_seeds(rows).capitalize()} a method, fewer than {FEW_SEEDS}: intervals lean on seeds being normal "
            "around the method."
        )
    found += seed_caveats(rows)
    if any(row.split != "test" for row in rows):
        found.append("Some tasks have no test split here: what settings were chosen on is too favourable.")
    if any(row.split == "rl" for row in rows):
        found.append("Some tasks have only training problems here: nothing is said about new ones.")
    tasks = sorted({row.task for row in rows})
    models = sorted({str(row.run.settings.get("model.path")) for row in rows if not row.run.is_model})
    if len(tasks) == 1:
        found.append(f"One task, {tasks[0]}: nothing here says that it holds for others.")
    if len(models) == 1:
        found.append(f"One model, {models[0]}: nothing here says that it holds for others.")
    if any(row.footnote for row in frame.rows):
        found.append("Some rows were not measured alike (see the brackets behind their names).")
    found += budget_caveats(rows)
    if _swept(rows):
        found.append("Several settings of one method are compared: the best of them looks better than it is.")
    if main.baseline is not None and any(main.frame[f"{metric}_diff_p"].notna().any() for metric in main.metrics):
        found.append(
            "p values are corrected within a task and split, not over tasks, metrics left out or looks at the data."
        )
    elif main.baseline is None:
        found.append("There is no baseline among the rows: no differences have been tested.")
    if notes:
        found.append(f"{len(notes)} remarks about what was read or left out stand under Notes.")
    return found


def _differences(
    where: str, records: Sequence[dict[str, object]], main: Table, as_well: Mapping[tuple[str, str, str], str]
) -> list[str]:
    if main.baseline is None:
        return []
    tested = [(r, metric) for r in records for metric in _judged(main) if not is_missing(r[f"{metric}_diff_p_holm"])]
    if not tested:
        return []
    clear = [(r, metric) for r, metric in tested if _value(r[f"{metric}_diff_p_holm"]) <= LEVEL]
    listed = "; ".join(
        f"{r['method']} {_value(r[f'{metric}_diff']):+.3f} in {metric}{_but(r, metric, as_well)}" for r, metric in clear
    )
    said = f": {listed}" if clear else ""
    return [
        f"{where}: {len(clear)} of {len(tested)} differences to {main.baseline} have a corrected p <= {LEVEL}{said}."
    ]


def _listed(records: Sequence[dict[str, object]], indices: Sequence[int], metric: str) -> str:
    values = (f"{records[index]['method']} {_value(records[index][metric]):.3f}" for index in indices)
    return f"{metric} {', '.join(values)}"


def _but(record: dict[str, object], metric: str, as_well: Mapping[tuple[str, str, str], str]) -> str:
    """What has to be said of whichever of the two is ahead."""
    ahead = record["method"] if _value(record[f"{metric}_diff"]) > 0 else record["baseline"]
    remark = as_well.get((str(ahead), str(record["task"]), str(record["split"])))
    return f" (no gain of {ahead} over the base: {remark})" if remark else ""


def _judged(main: Table) -> list[str]:
    return [metric for metric in main.metrics if metric not in UNRANKED_METRICS]


def _value(value: object) -> float:
    return float(str(value))


def _swept(rows: Sequence[Row]) -> bool:
    methods = [(row.task, row.run.method) for row in rows if not row.run.is_model]
    return len(set(methods)) < len(methods)
