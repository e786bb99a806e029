"""Methods with one seed are not tested: no p, no bold cells, no leader. Also the power table."""

import json

import numpy as np
import pandas as pd
import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.metrics.tail import MIN_P
from progrpo_cli.reporting.analysis.views import views
from progrpo_cli.reporting.build import build_report
from progrpo_cli.studies.reconcile import interval

pytestmark = pytest.mark.usefixtures("no_figures")


def _run(runs, name, *overrides, rate, seed, **options):
    scores = [make_scores(seed=seed, rate=rate)]
    return write_run(runs / name, *overrides, scores=scores, wandb="disabled", steps=2, **options)


@pytest.fixture
def one_seed(tmp_path):
    """The base, GRPO and a much better ProGRPO, one seed each."""
    runs = tmp_path / "runs"
    _run(runs, "base", rate=0.1, seed=1, kind="model")
    _run(runs, "grpo", "method=grpo", rate=0.2, seed=2)
    _run(runs, "progrpo", "method=progrpo", rate=0.9, seed=3)
    return runs


def test_methods_with_one_seed_are_not_tested(one_seed, tmp_path):
    result = build_report([str(one_seed)], out=tmp_path / "out")
    frame = result.main.frame.set_index("method")
    assert frame.loc["progrpo", "pass@1_diff_low"] > 0
    assert not result.main.best
    for metric in result.main.metrics:
        assert frame[[f"{metric}_diff_p", f"{metric}_diff_p_holm"]].isna().all(axis=None)
    caption = " ".join(result.main.caption)
    assert "the methods are not tested" in caption
    assert "Holm" not in caption
    assert "Bold" not in caption
    text = (tmp_path / "out" / "main.md").read_text()
    assert " p 0" not in text
    assert " p <=" not in text
    assert "**0." not in text
    page = (tmp_path / "out" / "index.html").read_text()
    assert "methods are not tested" in page
    for claim in ("has the highest", "its lead", "corrected p", "p values are corrected", "<strong>0."):
        assert claim not in page


def test_a_method_with_seeds_is_tested_beside_one_without(one_seed, tmp_path):
    for seed in (1, 2):
        _run(one_seed, f"grpo{seed}", "method=grpo", f"seed={seed}", rate=0.2, seed=10 + seed)
    result = build_report([str(one_seed)], out=tmp_path / "out", formats=["csv"])
    frame = result.main.frame.set_index("method")
    assert frame.loc["base", "pass@1_diff_p"] < 0.2  # a given policy is tested against a method with three seeds
    assert np.isnan(frame.loc["progrpo", "pass@1_diff_p"])
    assert not result.main.best


def test_two_seeds_are_too_few_and_three_are_not(one_seed, tmp_path):
    for seed in (1, 2):
        for method, rate in (("grpo", 0.2), ("progrpo", 0.9)):
            _run(one_seed, f"{method}{seed}", f"method={method}", f"seed={seed}", rate=rate, seed=10 + seed)
        caption = " ".join(build_report([str(one_seed)], out=tmp_path / "out", formats=["csv"]).main.caption)
        assert ("Too few seeds" in caption) == (seed == 1)


def test_the_smallest_p_is_printed_with_a_less_or_equal_sign(one_seed, tmp_path):
    for method, rate in (("grpo", 0.1), ("progrpo", 0.95)):
        for seed in range(1, 8):
            _run(one_seed, f"{method}{seed}", f"method={method}", f"seed={seed}", rate=rate, seed=20 + seed)
    table = build_report([str(one_seed)], out=tmp_path / "out", formats=["csv"]).main
    differences = views(table)[1]
    row = next(row for row in differences.rows if row[0].text == "progrpo")
    record = table.frame.set_index("method").loc["progrpo"]
    (column,) = [number for number, name in enumerate(differences.header) if name == "pass@1"]
    floored = table.frame.copy()
    floored.loc[floored["method"] == "progrpo", ["pass@1_diff_p", "pass@1_diff_p_holm"]] = [MIN_P, 6 * MIN_P]
    assert record["pass@1_diff_p"] < 1e-3
    assert " p <= 6e-06" in _cells(table, floored)[column]
    assert ("<=" in row[column].text) == (record["pass@1_diff_p"] <= MIN_P)


def _cells(table, frame: pd.DataFrame):
    changed = type(table)(**{**vars(table), "frame": frame})
    return next(row for row in views(changed)[1].texts if row[0] == "progrpo")


def test_sweep_and_report_give_the_same_interval_for_the_same_numbers(lab, tmp_path):
    frame = build_report([str(lab)], out=tmp_path, formats=["csv"]).main.frame.set_index("method")
    scores = [make_scores(seed=30 + seed, rate=0.39) for seed in (0, 1)]
    values = [seed_scores["per_problem"]["distinct_correct"] for seed_scores in scores]
    low, high = interval("distinct_correct", values, scores[0]["n"])
    row = frame.loc["progrpo (method.arm.alpha=0.3)"]
    assert (low, high) == pytest.approx((row["distinct_correct_low"], row["distinct_correct_high"]), abs=1e-9)
    nothing = interval("distinct_correct", [[0.0] * 40], 16)
    assert nothing[0] == 0.0
    assert 0 < nothing[1] < 2  # an unseen problem may have up to n


def test_power_says_how_many_seeds_and_problems_are_needed(lab, tmp_path, monkeypatch, capsys):
    from progrpo_cli.commands.report import print_report

    print_report([str(lab)], out=tmp_path, formats=["csv", "md"], power=True, difference=0.1, as_json=True)
    rows = json.loads(capsys.readouterr().out)["power"]
    assert {(row["method"], row["metric"]) for row in rows} == {
        (method, metric)
        for method in ("base", "progrpo (method.arm.alpha=0.3)", "progrpo (method.arm.alpha=1)")
        for metric in ("pass@1", "pass@8", "distinct_correct")
    }
    for row in rows:
        assert row["seeds needed, 1000 problems"].isdigit() or row["seeds needed, 1000 problems"] == "more than 100"
    written = (tmp_path / "power.md").read_text()
    assert "a difference of 0.1 to grpo with 80 % power" in written


def test_power_plans_only_problems_with_one_seed(one_seed, tmp_path):
    table = build_report([str(one_seed)], out=tmp_path / "out", formats=["csv", "html"], power=0.1).power
    assert set(table.frame["seeds needed, problems at hand"]) == {"unknown"}
    assert table.frame["problems needed"].str.isdigit().any()
    assert any("only problems can be planned" in sentence for sentence in table.caption)
    assert "Seeds and problems needed" in (tmp_path / "out" / "index.html").read_text()
