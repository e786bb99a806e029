"""Trained policies against their base at several temperatures: sentences, table, figure and summary."""

import numpy as np
import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.reporting.analysis import figure_data
from progrpo_cli.reporting.analysis.dataset import build_dataset
from progrpo_cli.reporting.analysis.frontier import ABOVE, BELOW, BEYOND, WITHIN, compare_with_temperatures
from progrpo_cli.reporting.build import build_report
from progrpo_cli.reporting.reading.sources import read
from progrpo_cli.reporting.rendering import render

HARDNESS = np.random.default_rng(0).uniform(0.2, 1.8, 120)


def scores_at_rates(rates: np.ndarray, seed: int, n: int = 16, **changes: object) -> dict:
    """Scores on problems that are solved at these rates (P,)."""
    correct = np.random.default_rng(seed).binomial(n, np.clip(rates, 0, 1))
    scores = make_scores(seed=seed, rate=0.5, n=n, problems=len(HARDNESS), **changes)
    scores["counts"] = [[name, n, int(right)] for (name, _, _), right in zip(scores["counts"], correct, strict=True)]
    scores["per_problem"]["distinct_correct"] = (correct / 2).tolist()
    return scores


def all_or_none(share: float) -> np.ndarray:
    """Rates of problems that are almost always or never solved, as at a low temperature; ``share`` of them always."""
    threshold = np.quantile(HARDNESS, 1 - share)
    return (threshold < HARDNESS).astype(float) * 0.98


def base_scores(**changes: object) -> list[dict]:
    """Pass@1 and Pass@8 are 0.5 for greedy, about 0.45 and 0.74 at temperature 0.3, about 0.2 and 0.8 at 1."""
    greedy = scores_at_rates(all_or_none(0.5) > 0.5, 1, n=1, temperature=0.0, k=[1], **changes)
    return [
        greedy,
        scores_at_rates(np.maximum(all_or_none(0.4), 0.1), 2, temperature=0.3, **changes),
        scores_at_rates(0.2 * HARDNESS, 3, temperature=1.0, **changes),
    ]


POLICIES = {  # method -> rates of its problems
    "grpo": np.full(120, 0.38),  # Pass@8 near 1, with Pass@1 between those of the base at temperatures 1 and 0.3
    "dapo": 0.2 * HARDNESS,  # another sample of the base
    "gspo": all_or_none(0.25),  # below the line
    "dr_grpo": np.full(120, 0.9),
}
VERDICTS = {"grpo": ABOVE, "dapo": WITHIN, "gspo": BELOW, "dr_grpo": BEYOND}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    runs = tmp_path_factory.mktemp("frontier") / "runs"
    write_run(runs / "base", kind="model", scores=base_scores(), wandb="disabled")
    for method, rates in POLICIES.items():
        for seed in (0, 1, 2):
            scores = [scores_at_rates(rates, 100 * (seed + 1))]
            write_run(runs / f"{method}-{seed}", f"method={method}", f"seed={seed}", scores=scores, wandb="disabled")
    return runs


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    return build_report([str(runs)], out=tmp_path_factory.mktemp("report"))


def test_every_trained_policy_gets_a_verdict_in_table_and_words(report):
    (table,) = report.frontier
    rows = table.frame.set_index("method")
    assert rows["verdict"].to_dict() == VERDICTS
    assert set(rows["temperatures"]) == {"0, 0.3, 1"}
    assert "1 (" in rows.loc["gspo", "best temperature"]
    assert rows.loc["dr_grpo", "best temperature"] == "0"  # the best in Pass@1
    assert "%" in rows.loc["grpo", "best temperature"]
    assert np.isnan(rows.loc["dr_grpo", "height"])
    assert rows.loc["dr_grpo", "margin_low"] > 0
    assert rows["seeds beyond"].to_dict() == {"grpo": 0, "dapo": 0, "gspo": 0, "dr_grpo": 3}
    for method in POLICIES:
        assert sum(f"{method} is {VERDICTS[method]}" in sentence for sentence in report.findings) == 1
    assert not any("no temperature control" in sentence for sentence in report.findings)


def test_the_table_is_written_in_every_format_and_on_the_page(report):
    names = {file.name for file in report.files}
    assert {"frontier.csv", "frontier.md", "frontier.tex"} <= names
    page = (report.out / "index.html").read_text(encoding="utf-8")
    assert page.count("grpo is above the temperatures&#39; line") >= 2  # a finding, and under the figure
    assert "Pareto" not in page
    assert [row["verdict"] for row in render.json_rows(report.frontier[0])] == list(report.frontier[0].frame["verdict"])


def test_the_figure_has_the_bases_temperatures_and_their_line(runs, report):
    plane = (report.out / "figures" / "plane.csv").read_text(encoding="utf-8")
    dataset = build_dataset(read([str(runs)]))
    groups, note = figure_data.select_rows(dataset, "grpo", ["pass@1", "pass@8"])
    assert "2 rows (greedy, or the base at a temperature" in note
    assert [row.name for row in groups[0] if row.is_base] == ["base [temperature 1]"]
    data = figure_data.plane(groups, "pass@8", compare_with_temperatures(dataset.rows, ["pass@1", "pass@8"]))
    on_line = data.dropna(subset=["line"]).set_index("temperature")
    assert set(on_line.index) == {0.3, 1.0}
    assert plane.count("base's temperatures") == 2
    assert len(data) == 2 + len(POLICIES)  # greedy has no Pass@8
    drawn = figure_data.pass_at_k(groups)
    assert drawn["k"].max() == 16  # the greedy row with n = 1 does not limit the other lines
    assert not [name for name in drawn["method"].unique() if name.startswith("base") and "temperature 1]" not in name]


def test_a_method_matched_by_a_temperature_is_not_called_better(tmp_path, no_figures):
    """ProGRPO is significantly better than GRPO, but both are below the base at a low temperature."""
    write_run(tmp_path / "base", kind="model", scores=[scores_at_rates(0.05 * HARDNESS, 3)], wandb="disabled")
    for method, rate in (("grpo", 0.1), ("progrpo", 0.3)):
        for seed in (0, 1, 2):
            scores = [scores_at_rates(rate * HARDNESS, 10 * seed + len(method))]
            write_run(tmp_path / f"{method}{seed}", f"method={method}", f"seed={seed}", scores=scores, wandb="disabled")
    before = " ".join(build_report([str(tmp_path)], out=tmp_path / "out", formats=["csv"]).findings)
    assert "the interval of its lead over the second excludes 0" in before
    assert "there is no temperature control" in before
    assert "run `progrpo eval progrpo/lab-base --temperature 0,0.3,0.6,1`" in before
    other = [scores_at_rates(0.5 * HARDNESS, 4, temperature=0.5)]
    write_run(tmp_path / "base2", kind="model", scores=[scores_at_rates(0.05 * HARDNESS, 3), *other], wandb="disabled")
    result = build_report([str(tmp_path)], out=tmp_path / "out", formats=["csv"])
    after = " ".join(result.findings)
    assert result.frontier[0].frame["verdict"].tolist() == [BELOW, BELOW]
    leads = [
        sentence for sentence in result.findings if "temperature 1]): progrpo" in sentence and "highest" in sentence
    ]
    assert leads
    for sentence in leads:
        assert "excludes 0" not in sentence
        assert "no gain over the base: a temperature of the base does as well" in sentence
    assert "(no gain of progrpo" in after
    assert "no temperature control" not in after


def test_one_seed_is_about_the_policy(tmp_path, no_figures):
    write_run(tmp_path / "base", kind="model", scores=base_scores(), wandb="disabled")
    write_run(tmp_path / "grpo", "method=grpo", scores=[scores_at_rates(POLICIES["grpo"], 5)], wandb="disabled")
    result = build_report([str(tmp_path)], out=tmp_path / "out", formats=["csv"])
    assert any("one seed, so about this policy and not the method" in sentence for sentence in result.findings)
    assert "about that policy, not about the method" in " ".join(result.frontier[0].caption)


def test_only_matching_measures_are_compared(tmp_path, no_figures):
    """A base with another top-p is no control; a base with several is compared at the row's own top-p."""
    warm, cold = base_scores()[2], base_scores()[1]
    write_run(tmp_path / "base", kind="model", scores=[warm, {**cold, "top_p": 0.9}], wandb="disabled")
    write_run(tmp_path / "grpo", "method=grpo", scores=[scores_at_rates(POLICIES["grpo"], 5)], wandb="disabled")
    result = build_report([str(tmp_path)], out=tmp_path / "out", formats=["csv"])
    assert result.frontier == []
    assert "there is no temperature control" in " ".join(result.findings)
    write_run(tmp_path / "base2", kind="model", scores=[warm, cold], wandb="disabled")
    (table,) = build_report([str(tmp_path)], out=tmp_path / "out", formats=["csv"]).frontier
    assert table.frame["temperatures"].tolist() == ["0.3, 1"]


def test_a_report_of_models_alone_needs_no_control(tmp_path, no_figures):
    write_run(tmp_path / "base", kind="model", scores=base_scores(), wandb="disabled")
    result = build_report([str(tmp_path)], out=tmp_path / "out", formats=["csv"])
    assert result.frontier == []
    assert not any("temperature control" in sentence for sentence in result.findings)
