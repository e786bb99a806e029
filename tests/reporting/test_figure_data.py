"""What the figures draw, which is what stands beside them as CSV."""

import numpy as np
import pandas as pd
import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.reporting import figure_data
from progrpo_cli.reporting.compare import preferred
from progrpo_cli.reporting.frame import build
from progrpo_cli.reporting.sources import read
from progrpo_cli.reporting.write import build_report


@pytest.fixture(scope="module")
def columns(lab):
    return preferred(build(read([str(lab)])).rows)


def test_pass_at_k_passes_through_the_tables_numbers(columns, lab, tmp_path, no_figures):
    main = build_report([str(lab)], out=tmp_path, formats=["csv"]).main.frame.set_index("method")
    data = figure_data.pass_at_k(columns)
    assert sorted(data["k"].unique()) == [1, 2, 3, 4, 6, 8, 11, 16]
    for k in (1, 8):
        at_k = data[data["k"] == k].set_index("method")
        for part, name in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert at_k[name].to_dict() == main[f"pass@{k}{part}"].to_dict()
    assert data.groupby("method")["value"].apply(lambda values: values.is_monotonic_increasing).all()


def test_lines_over_steps_are_means_and_ranges_over_seeds(columns):
    data = figure_data.over_steps(columns, "entropy")
    assert "base" not in set(data["method"])
    grpo = data[data["method"] == "grpo"].set_index("step")
    assert grpo.index.tolist() == list(range(1, 21))
    assert grpo.loc[4, ["value", "low", "high", "seeds"]].tolist() == pytest.approx([0.30, 0.25, 0.35, 2])
    shift = figure_data.over_steps(columns, "arm/shift_std")
    assert shift["step"].min() == 2  # NaN at the first step is left out
    assert figure_data.over_steps(columns, "arm/sign_flips").empty


def test_long_curves_are_thinned_and_keep_their_end(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "r", "method=grpo", scores=[make_scores(seed=1, rate=0.5)], wandb="disabled", steps=1001)
    data = figure_data.over_steps(preferred(build(read([str(runs)])).rows), "reward")
    steps = data["step"].to_numpy()
    assert len(steps) <= figure_data.MOST_POINTS
    assert steps[-1] == 1001
    assert set(np.diff(steps)) == {5}
    assert data["value"].iloc[-1] == pytest.approx(10.01)


def test_the_pareto_front_is_of_what_nothing_else_beats_in_both(columns):
    data = figure_data.plane(columns, "pass@1", "pass@8").set_index("method")
    points = {name: (row["pass@1"], row["pass@8"]) for name, row in data.iterrows()}
    for name, (x, y) in points.items():
        beaten = any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
        assert data.loc[name, "on_front"] == (not beaten)
    assert 0 < data["on_front"].sum() < len(data)


def test_too_many_lines_leave_the_base_the_baseline_and_the_best(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "base", kind="model", scores=[make_scores(seed=99, rate=0.05)], wandb="disabled")
    write_run(runs / "grpo", "method=grpo", scores=[make_scores(seed=98, rate=0.06)], wandb="disabled", steps=0)
    for number in range(10):
        scores = [make_scores(seed=number, rate=0.1 + 0.05 * number)]
        write_run(runs / f"r{number}", f"method.arm.alpha={number}", scores=scores, wandb="disabled", steps=0)
    frame = build(read([str(runs)]))
    (drawn,) = figure_data.drawn_rows(frame, "grpo", "pass@8")
    assert len(drawn) == figure_data.MOST_LINES
    assert {"base", "grpo"} <= {row.label for row in drawn}
    means = pd.Series({row.label: row.values("pass@8").mean() for row in frame.rows}).drop(["base", "grpo"])
    assert {row.label for row in drawn} - {"base", "grpo"} == set(means.nlargest(6).index)
