"""The data of figures, which are also their CSV files."""

import numpy as np
import pandas as pd
import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.reporting.analysis import figure_data
from progrpo_cli.reporting.analysis.compare import preferred_splits
from progrpo_cli.reporting.analysis.dataset import build_dataset
from progrpo_cli.reporting.build import build_report
from progrpo_cli.reporting.reading.sources import read


@pytest.fixture(scope="module")
def groups(lab):
    return preferred_splits(build_dataset(read([str(lab)])).rows)


def test_pass_at_k_agrees_with_the_main_table(groups, lab, tmp_path, no_figures):
    main = build_report([str(lab)], out=tmp_path, formats=["csv"]).main.frame.set_index("method")
    data = figure_data.pass_at_k(groups)
    assert sorted(data["k"].unique()) == [1, 2, 3, 4, 6, 8, 11, 16]
    for k in (1, 8):
        at_k = data[data["k"] == k].set_index("method")
        for part, name in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert at_k[name].to_dict() == main[f"pass@{k}{part}"].to_dict()
    assert data.groupby("method")["value"].apply(lambda values: values.is_monotonic_increasing).all()


def test_lines_over_steps_are_means_and_ranges_over_seeds(groups):
    data = figure_data.over_steps(groups, "entropy")
    assert "base" not in set(data["method"])
    grpo = data[data["method"] == "grpo"].set_index("step")
    assert grpo.index.tolist() == list(range(1, 21))
    assert grpo.loc[4, ["value", "low", "high", "seeds"]].tolist() == pytest.approx([0.30, 0.25, 0.35, 2])
    shift = figure_data.over_steps(groups, "arm/shift_std")
    assert shift["step"].min() == 2  # NaN at the first step is left out
    assert figure_data.over_steps(groups, "arm/sign_flips").empty


def test_long_curves_are_thinned_and_keep_their_end(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "r", "method=grpo", scores=[make_scores(seed=1, rate=0.5)], wandb="disabled", steps=1001)
    data = figure_data.over_steps(preferred_splits(build_dataset(read([str(runs)])).rows), "reward")
    steps = data["step"].to_numpy()
    assert len(steps) <= figure_data.MAX_POINTS
    assert steps[-1] == 1001
    assert set(np.diff(steps)) == {5}
    assert data["value"].iloc[-1] == pytest.approx(10.01)


def test_too_many_lines_leave_the_base_the_baseline_and_the_best(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "base", kind="model", scores=[make_scores(seed=99, rate=0.05)], wandb="disabled")
    write_run(runs / "grpo", "method=grpo", scores=[make_scores(seed=98, rate=0.06)], wandb="disabled", steps=0)
    for number in range(10):
        scores = [make_scores(seed=number, rate=0.1 + 0.05 * number)]
        write_run(runs / f"r{number}", f"method.arm.alpha={number}", scores=scores, wandb="disabled", steps=0)
    dataset = build_dataset(read([str(runs)]))
    (drawn,), left_out = figure_data.select_rows(dataset, "grpo", ["pass@1", "pass@8"])
    assert left_out == " countdown: 4 rows with a lower pass@8 are not drawn; main.csv has them."
    assert len(drawn) == figure_data.MAX_LINES
    assert {"base", "grpo"} <= {row.label for row in drawn}
    means = pd.Series({row.label: row.values("pass@8").mean() for row in dataset.rows}).drop(["base", "grpo"])
    assert {row.label for row in drawn} - {"base", "grpo"} == set(means.nlargest(6).index)


def _rows(tmp_path, scores_of, **options):
    """A dataset with rows of ProGRPO that differ in alpha."""
    runs = tmp_path / "runs"
    for alpha, scores in enumerate(scores_of):
        write_run(runs / f"r{alpha}", f"method.arm.alpha={alpha}", scores=scores, wandb="disabled", steps=0)
    return build_dataset(read([str(runs)]), **options)


def test_each_task_is_ranked_by_a_k_that_it_has(tmp_path, no_figures):
    """The largest k of another task may be above this task's n."""
    scores_of = [
        [make_scores(seed=i, rate=0.1 + i / 20), make_scores(seed=i, rate=0.6 - i / 20, task="maths", n=4, k=[1, 4])]
        for i in range(10)
    ]
    dataset = _rows(tmp_path, scores_of)
    groups, left_out = figure_data.select_rows(dataset, None, ["pass@1", "pass@4", "pass@8"])
    for rows, (task, metric) in zip(groups, (("countdown", "pass@8"), ("maths", "pass@4")), strict=True):
        means = {row.name: row.values(metric).mean() for row in dataset.rows if row.task == task}
        assert {row.name for row in rows} == set(pd.Series(means).nlargest(figure_data.MAX_LINES).index)
        assert f" {task}: 2 rows with a lower {metric} are not drawn" in left_out
    lines = build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"]).terminal_figure
    assert "Pass@k over k, maths (test split)" in lines


def test_rows_without_the_ranking_metric_are_counted_separately(tmp_path):
    scores_of = [[make_scores(seed=i, rate=0.5, n=16 if i < 9 else 4)] for i in range(12)]
    dataset = _rows(tmp_path, scores_of, mixed=True)
    (drawn,), left_out = figure_data.select_rows(dataset, None, ["pass@8"])
    assert {row.evaluations[0].n for row in drawn} == {16}
    expected = " countdown: 1 rows with a lower pass@8 and 3 rows without pass@8 are not drawn; main.csv has them."
    assert left_out == expected


def test_each_row_has_its_own_number_of_problems(tmp_path):
    dataset = _rows(tmp_path, [[make_scores(seed=i, rate=0.5, problems=40 - 10 * i)] for i in range(2)], mixed=True)
    groups = preferred_splits(dataset.rows)
    for data in (figure_data.pass_at_k(groups), figure_data.plane(groups, "pass@8")):
        problems = data.groupby("method")["problems"].unique()
        assert {name.split("[")[1]: list(counts) for name, counts in problems.items()} == {
            "40 problems]": [40],
            "30 problems]": [30],
        }
