import json

import numpy as np
import pandas as pd
import pytest
import yaml
from made_up_runs import BASE, make_scores, write_run

from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed_bootstrap
from progrpo_cli.metrics.holm import holm
from progrpo_cli.metrics.passk import pass_at_k
from progrpo_cli.reporting.analysis import views
from progrpo_cli.reporting.build import build_report

pytestmark = pytest.mark.usefixtures("no_figures")


def _report(runs, out, **options):
    return build_report([str(runs)], out=out, formats=["csv"], **options)


def _run(runs, name, *overrides, **options):
    """Write a run without W&B files, which test_report_sources.py covers."""
    return write_run(runs / name, *overrides, wandb="disabled", steps=2, **options)


def _scored(**changes):
    return [make_scores(**{"seed": 1, "rate": 0.5, **changes})]


def _per_problem(scores, k):
    return [pass_at_k(n, right, k) for _, n, right in sorted(scores["counts"])]


def test_the_main_table_matches_its_definition(lab, tmp_path):
    result = _report(lab, tmp_path)
    frame = result.main.frame
    assert frame["method"].tolist() == [
        "base",
        "grpo",
        "progrpo (method.arm.alpha=0.3)",
        "progrpo (method.arm.alpha=1)",
    ]
    assert frame["seeds"].tolist() == [1, 2, 2, 2]
    assert frame[["task", "split", "problems", "n", "temperature"]].drop_duplicates().values.tolist() == [
        ["countdown", "test", 40, 16, 1.0]
    ]
    grpo = np.array([_per_problem(make_scores(seed=10 + seed, rate=0.3), 8) for seed in (0, 1)])
    strong = np.array([_per_problem(make_scores(seed=100 + seed, rate=0.6), 8) for seed in (0, 1)])
    row = frame.set_index("method").loc["progrpo (method.arm.alpha=1)"]
    groups = {"grpo": grpo, "progrpo (method.arm.alpha=1)": strong}
    expected = crossed_bootstrap(groups, bounds=PROBABILITY, baseline="grpo")[row.name]
    assert row["pass@8"] == strong.mean()
    assert row["pass@8_diff"] == pytest.approx(strong.mean() - grpo.mean())
    measured = [row["pass@8_low"], row["pass@8_high"], row["pass@8_diff_low"], row["pass@8_diff_high"]]
    mean, difference = expected.mean, expected.difference
    assert measured == pytest.approx([mean.low, mean.high, difference.low, difference.high])
    assert np.isnan(frame.set_index("method").loc["grpo", "pass@8_diff"])
    scores = make_scores(seed=1, rate=0.1)
    assert frame["entropy"][0] == pytest.approx(np.mean(scores["per_problem"]["entropy"]))


def test_k_is_computed_from_the_counts_and_never_above_n(lab, tmp_path):
    result = _report(lab, tmp_path / "a", ks=[16, 3])
    frame = result.main.frame
    assert [name for name in frame if name.startswith("pass@") and "_" not in name] == ["pass@3", "pass@16"]
    assert frame["pass@3"][0] == pytest.approx(np.mean(_per_problem(make_scores(seed=1, rate=0.1), 3)))
    with pytest.raises(RequestError, match=r"--k 32 needs n >= 32 samples per problem; countdown \(test\) has n = 16"):
        _report(lab, tmp_path / "b", ks=[1, 32])
    with pytest.raises(RequestError, match="at least 1"):
        _report(lab, tmp_path / "b", ks=[0])
    assert not (tmp_path / "b").exists()


def test_the_baseline_is_a_label_or_a_method_with_one_configuration(lab, tmp_path):
    by_label = _report(lab, tmp_path / "a", baseline="progrpo (method.arm.alpha=1)").main.frame
    assert by_label.set_index("method").loc["grpo", "pass@1_diff"] < 0
    assert (_report(lab, tmp_path / "b", baseline="base").main.frame["pass@1_diff"].dropna() > 0).all()
    with pytest.raises(RequestError, match="did you mean 'grpo'"):
        _report(lab, tmp_path / "c", baseline="grop")
    with pytest.raises(RequestError, match="progrpo has several configurations"):
        _report(lab, tmp_path / "c", baseline="progrpo")
    assert not (tmp_path / "c").exists()


def test_without_a_baseline_there_are_no_differences(lab, tmp_path):
    result = build_report([str(lab / "study")], out=tmp_path, formats=["csv"])
    assert result.main.baseline is None
    assert result.main.frame["pass@1_diff"].isna().all()
    assert not any("Differences" in sentence for sentence in result.main.caption)


def test_an_ambiguous_default_baseline_is_noted(tmp_path):
    for rate in ("1e-4", "2e-4"):
        _run(tmp_path / "runs", f"r{rate}", "method=grpo", f"train.learning_rate={rate}", scores=_scored())
    result = _report(tmp_path / "runs", tmp_path / "out")
    assert result.main.baseline is None
    assert any("grpo has several configurations" in note for note in result.notes)
    assert result.main.frame["method"].tolist() == [
        "grpo (train.learning_rate=0.0001)",
        "grpo (train.learning_rate=0.0002)",
    ]


def test_splits_are_never_mixed_and_test_comes_first(tmp_path):
    runs = tmp_path / "runs"
    validation = make_scores(seed=5, rate=0.5, split="validation", n=8, problems=10)
    _run(runs, "s0", "method=grpo", scores=[validation, *_scored()])
    _run(
        runs,
        "s1",
        "method=grpo",
        "seed=1",
        scores=[make_scores(seed=6, rate=0.5, split="validation", n=8, problems=10)],
    )
    result = _report(runs, tmp_path / "out")
    columns = ["split", "seeds", "n", "problems"]
    assert result.main.frame[columns].values.tolist() == [["test", 1, 16, 40], ["validation", 2, 8, 10]]
    assert any(sentence.startswith("Validation split") for sentence in result.main.caption)
    assert any("Fewer than 5 seeds" in sentence for sentence in result.main.caption)


def test_five_seeds_of_test_need_no_caveat(tmp_path):
    runs = tmp_path / "runs"
    for seed in range(5):
        _run(runs, f"s{seed}", "method=grpo", f"seed={seed}", scores=_scored(seed=seed))
    caption = " ".join(_report(runs, tmp_path / "out").main.caption)
    assert "5 seeds per row" in caption
    assert "Fewer than" not in caption
    assert "Validation" not in caption
    assert "5 runs read from" in caption


def test_different_tasks_have_rows_of_their_own(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "a", "method=grpo", scores=[*_scored(), *_scored(task="maths", n=8)])
    frame = _report(runs, tmp_path / "out").main.frame
    assert frame[["task", "n"]].values.tolist() == [["countdown", 16], ["maths", 8]]


def test_a_policy_measured_twice_counts_once_and_the_newest_is_kept(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "newer", "method=grpo", scores=_scored(seed=3, scored_at="2026-11-25T00:00:00+00:00"))
    _run(runs, "older", "method=grpo", scores=_scored(seed=4, scored_at="2026-11-24T00:00:00+00:00"))
    result = _report(runs, tmp_path / "out")
    (value,) = result.main.frame["pass@1"]
    assert value == np.mean(_per_problem(make_scores(seed=3, rate=0.5), 1))
    assert [note for note in result.notes if note.startswith("older: ") and "measured again in newer" in note]
    evaluations = result.provenance.frame.set_index("run")["evaluations"]
    assert evaluations.to_dict() == {"newer": "countdown-test0 (test)", "older": "none"}


def test_a_model_is_the_base_only_if_training_started_from_it(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "eval-lab", kind="model", scores=_scored())
    assert _report(runs, tmp_path / "a").main.frame["method"].tolist() == [BASE]
    _run(runs, "run", "method=grpo", scores=_scored(seed=2))
    _run(runs, "eval-other", "model.path=someone/else", kind="model", scores=_scored(seed=3))
    result = _report(runs, tmp_path / "b")
    assert result.main.frame["method"].tolist() == ["base", "someone/else", "grpo"]
    assert f"base: {BASE}, the policy that training started from." in result.main.caption


def test_an_ablation_holds_everything_else_equal(tmp_path):
    runs = tmp_path / "runs"
    for alpha, fraction in [(0.3, 0.2), (1.0, 0.2), (3.0, 0.2), (1.0, 0.5)]:
        settings = [f"method.arm.alpha={alpha}", f"method.arm.low_fraction={fraction}"]
        for seed in (0, 1):
            _run(runs, f"{alpha}-{fraction}-{seed}", *settings, f"seed={seed}", scores=_scored(seed=seed))
    _run(runs, "grpo", "method=grpo", scores=_scored())
    result = _report(runs, tmp_path / "out")
    tables = {table.name: table.frame for table in result.ablations}
    assert sorted(tables) == ["ablation-method.arm.alpha", "ablation-method.arm.low_fraction"]
    alpha = tables["ablation-method.arm.alpha"]
    assert alpha["method.arm.alpha"].tolist() == [0.3, 1.0, 3.0]  # without the run with another low_fraction
    assert set(alpha["held"]) == {"method.arm.low_fraction=0.2"}
    assert alpha["seeds"].tolist() == [2, 2, 2]
    fraction = tables["ablation-method.arm.low_fraction"]
    assert fraction["method.arm.low_fraction"].tolist() == [0.2, 0.5]
    assert set(fraction["held"]) == {"method.arm.alpha=1"}
    captions = {table.name: table.caption for table in result.ablations}
    assert "Held fixed: method.arm.low_fraction=0.2." in captions["ablation-method.arm.alpha"]
    assert "Held fixed: method.arm.alpha=1." in captions["ablation-method.arm.low_fraction"]
    main = result.main.frame.set_index("method")
    same = main.loc["progrpo (method.arm.alpha=3, method.arm.low_fraction=0.2)"]
    assert alpha.iloc[2][["pass@1", "pass@1_low"]].tolist() == same[["pass@1", "pass@1_low"]].tolist()


def test_values_on_different_tasks_give_no_ablation(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "a", "method.arm.alpha=1", scores=_scored())
    _run(runs, "b", "method.arm.alpha=2", scores=_scored(task="maths"))
    assert _report(runs, tmp_path / "out").ablations == []


def test_a_newer_key_has_its_default_in_older_runs(tmp_path):
    runs = tmp_path / "runs"
    old = _run(runs, "old", "method.arm.alpha=0.3", scores=_scored())
    older = _run(runs, "older", "method.arm.alpha=1", "seed=1", scores=_scored(seed=3))
    _run(runs, "new", "method.arm.alpha=1", scores=_scored(seed=2))
    for run in (old, older):
        config = yaml.safe_load(run.config_path.read_text())
        assert config["method"]["arm"].pop("low_fraction") == 0.2
        del config["train"]["rewards"]
        run.config_path.write_text(yaml.safe_dump(config))
    result = _report(runs, tmp_path / "out")
    frame = result.main.frame
    assert frame["method"].tolist() == ["progrpo (method.arm.alpha=0.3)", "progrpo (method.arm.alpha=1)"]
    assert frame["seeds"].tolist() == [1, 2]
    (table,) = result.ablations
    assert table.frame["method.arm.alpha"].tolist() == [0.3, 1.0]


def test_provenance_says_whether_the_code_was_modified(tmp_path):
    states = {
        "clean": {"commit": "a", "dirty": False},
        "changed": {"commit": "a", "dirty": True},
        "old": {"commit": "a"},
    }
    for seed, (name, state) in enumerate(states.items()):
        run = _run(tmp_path / "runs", name, "method=grpo", f"seed={seed}", scores=_scored(seed=seed))
        run.update(git=state)
    frame = _report(tmp_path / "runs", tmp_path / "out").provenance.frame.set_index("run")
    assert frame["dirty"].to_dict() == {"clean": False, "changed": True, "old": None}


def test_provenance_names_every_run_and_its_source(lab, tmp_path):
    frame = pd.read_csv(_report(lab, tmp_path).out / "provenance.csv").set_index("run")
    assert len(frame) == 7
    row = frame.loc["a0.3-s1"]
    assert row["study"] == "study"
    assert row["seed"] == 1
    assert row["method"] == "progrpo (method.arm.alpha=0.3)"
    assert row["status"] == "finished"
    assert row["path"] == str(lab / "study" / "trials" / "a0.3-s1")
    assert row["evaluations"] == "countdown-test0 (test)"
    assert frame.loc["grpo-s0", "config_hash"] == frame.loc["grpo-s1", "config_hash"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda scores: scores.pop("counts"), "counts: Field required"),
        (lambda scores: scores["counts"].append(["problem 0", 16, 1]), "counts are inconsistent"),
        (lambda scores: scores["counts"].__setitem__(3, ["problem 3", 16, 17]), "counts are inconsistent"),
        (lambda scores: scores["per_problem"]["entropy"].pop(), "different lengths"),
        (lambda scores: scores["per_problem"]["problem_id"].__setitem__(0, "x"), "different problems"),
        (lambda scores: scores.__setitem__("temperature", "hot"), "temperature"),
        (lambda scores: scores["counts"].__setitem__(3, ["problem 3", 16, 2**70]), "counts are inconsistent"),
        (lambda scores: scores["per_problem"]["distinct_correct"].__setitem__(3, -1), "distinct_correct contradicts n"),
        (lambda scores: scores["per_problem"]["distinct_correct"].__setitem__(3, 17), "distinct_correct contradicts n"),
    ],
)
def test_damaged_scores_are_left_out_and_the_rest_is_reported(tmp_path, damage, message):
    runs = tmp_path / "runs"
    _run(runs, "good", "method=grpo", scores=_scored())
    bad = _scored(seed=2)
    damage(bad[0])
    bad[0].setdefault("task", "countdown")
    _run(runs, "bad", "method=progrpo", scores=bad)
    result = _report(runs, tmp_path / "out")
    assert result.main.frame["method"].tolist() == ["grpo"]
    assert [note for note in result.notes if "scores/countdown-test0 of bad left out" in note and message in note]


def test_a_metric_that_was_not_measured_is_empty_not_zero(tmp_path):
    runs = tmp_path / "runs"
    scores = _scored(seed=2)
    scores[0]["per_problem"]["distinct_correct"] = None
    _run(runs, "with", "method=grpo", scores=_scored())
    _run(runs, "without", "method=progrpo", scores=scores)
    result = _report(runs, tmp_path / "out")
    assert result.main.frame["distinct_correct"].isna().tolist() == [False, True]
    line = (tmp_path / "out" / "main.csv").read_text().splitlines()[2]
    assert line.endswith("," * 8)


def test_runs_without_scores_are_refused(tmp_path):
    _run(tmp_path / "runs", "r", "method=grpo")
    with pytest.raises(RequestError, match=r"no evaluated runs under .*1 runs without scores"):
        _report(tmp_path / "runs", tmp_path / "out")


def test_a_run_measured_twice_is_reported_with_the_shared_n(tmp_path):
    runs = tmp_path / "runs"
    twice = [make_scores(seed=1, rate=0.5), make_scores(seed=1, rate=0.5, n=32)]
    _run(runs, "twice", "method=grpo", scores=twice)
    _run(runs, "once", "method=progrpo", scores=_scored(seed=2))
    result = _report(runs, tmp_path / "out")
    assert result.main.frame["n"].tolist() == [16, 16]
    assert [note for note in result.notes if "twice: countdown-test1 (test, n = 32) left out" in note]
    alone = _report(runs / "twice", tmp_path / "alone")
    assert alone.main.frame["n"].tolist() == [32]  # the larger of two n that all policies share


def test_different_measures_are_footnoted_on_request(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "first", "method=grpo", scores=_scored(max_new_tokens=24))
    _run(runs, "longer", "method=progrpo", scores=_scored(seed=2, max_new_tokens=32))
    _run(runs, "fewer", "method=gspo", scores=_scored(seed=3, problems=30))
    with pytest.raises(WorkError, match=r"token limit 24 in first; token limit 32 in longer; .*--mixed"):
        _report(runs, tmp_path / "out")
    result = build_report([str(runs)], out=tmp_path / "out", formats=["csv", "md"], mixed=True)
    names = result.main.frame["method"].tolist()
    assert names == [
        "grpo [40 problems, token limit 24]",
        "gspo [30 problems, token limit 24]",
        "progrpo [40 problems, token limit 32]",
    ]
    assert result.main.frame["pass@1_diff"].isna().all()  # nothing here may be subtracted
    assert not result.main.best
    assert any("NOT measured in the same way" in sentence for sentence in result.main.caption)
    assert "30 problems, token limit 24" in (tmp_path / "out" / "main.md").read_text()


def _of_other_problems(**changes):
    (scores,) = _scored(**changes)
    scores["counts"] = [[f"other {name}", n, right] for name, n, right in scores["counts"]]
    scores["per_problem"]["problem_id"] = [f"other {name}" for name in scores["per_problem"]["problem_id"]]
    return [scores]


def test_two_sets_with_equally_many_problems_are_distinguished(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "a", "method=grpo", scores=_scored(seed=1))
    _run(runs, "b", "method=grpo", "seed=1", scores=_of_other_problems(seed=2))
    with pytest.raises(WorkError, match=r"40 problems (\w{6}) in [ab]; 40 problems (?!\1)\w{6} in [ab];"):
        _report(runs, tmp_path / "out")
    frame = _report(runs, tmp_path / "out", mixed=True).main.frame
    assert frame["method"].str.fullmatch(r"grpo \[40 problems \w{6}\]").all()
    assert frame["method"].nunique() == 2
    expected = [np.mean(_per_problem(make_scores(seed=seed, rate=0.5), 1)) for seed in (1, 2)]
    assert sorted(frame["pass@1"]) == pytest.approx(sorted(expected))


def test_differences_are_only_to_a_baseline_with_the_same_measure(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "g24", "method=grpo", scores=_scored(seed=1))
    _run(runs, "g32", "method=grpo", "seed=1", scores=_scored(seed=2, rate=0.4, max_new_tokens=32))
    _run(runs, "p32", "method=progrpo", scores=_scored(seed=3, rate=0.6, max_new_tokens=32))
    _run(runs, "s16", "method=gspo", scores=_scored(seed=4, max_new_tokens=16))
    result = build_report([str(runs)], out=tmp_path / "out", formats=["md"], mixed=True)
    frame = result.main.frame.set_index("method")
    assert set(frame.index) == {
        f"{name}]"
        for name in ("grpo [token limit 24", "grpo [token limit 32", "gspo [token limit 16", "progrpo [token limit 32")
    }
    assert frame["pass@1_diff"].notna().sum() == 1
    row, other = "progrpo [token limit 32]", "grpo [token limit 32]"
    assert frame.loc[row, "baseline"] == other
    assert frame.loc[row, "pass@1_diff"] == pytest.approx(frame.loc[row, "pass@1"] - frame.loc[other, "pass@1"])
    differences = views.views(result.main)[1]
    column = differences.header.index("baseline")
    assert [row[column].text for row in differences.rows] == [other]


def test_scores_without_k_are_reported_with_pass_at_1(tmp_path):
    runs = tmp_path / "runs"
    run = _run(runs, "a", "method=grpo", scores=_scored(k=[]))
    _run(runs, "b", "method=progrpo", scores=_scored(seed=2, k=[32]))
    result = _report(runs, tmp_path / "out")
    assert [metric for metric in result.main.metrics if metric.startswith("pass@")] == ["pass@1"]
    assert result.main.frame["pass@1"].notna().all()
    (note,) = [note for note in result.notes if "only pass@1 is reported" in note]
    assert f"{run.path}: scores/countdown-test0 of a" in note


def test_another_version_of_a_task_is_another_measure(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "old", "method=grpo", scores=_scored(task_version="a"))
    _run(runs, "new", "method=progrpo", scores=_scored(task_version="b"))
    with pytest.raises(WorkError, match=r": (prompts a in old; prompts b in new|prompts b in new; prompts a in old);"):
        _report(runs, tmp_path / "out")


def test_arm_on_another_method_has_its_own_name(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "plain", "method=dr_grpo", scores=_scored())
    _run(runs, "with", "method=dr_grpo", "method.arm.alpha=0.3", scores=_scored(seed=2))
    _run(runs, "pro", "method=progrpo", scores=_scored(seed=3))
    assert _report(runs, tmp_path / "out").main.frame["method"].tolist() == ["dr_grpo", "dr_grpo+arm", "progrpo"]


def test_only_a_significant_lead_is_bold(tmp_path):
    runs = tmp_path / "runs"
    for seed in (0, 1):
        _run(runs, f"low{seed}", "method=grpo", f"seed={seed}", scores=_scored(seed=seed, rate=0.2))
        _run(runs, f"high{seed}", "method=progrpo", f"seed={seed}", scores=_scored(seed=seed + 5, rate=0.7))
    result = build_report([str(runs)], out=tmp_path / "out", formats=["md", "tex"])
    assert (1, "pass@1") in result.main.best
    assert not any(metric == "entropy" for _, metric in result.main.best)
    value = result.main.frame["pass@1"][1]
    assert f"**{value:.3f} " in (tmp_path / "out" / "main.md").read_text()
    assert rf"\textbf{{{value:.3f} " in (tmp_path / "out" / "main.tex").read_text()
    for seed in (0, 1):  # a third method that is as good as the second
        _run(runs, f"same{seed}", "method=gspo", f"seed={seed}", scores=_scored(seed=seed + 7, rate=0.7))
    assert not any(metric == "pass@1" for _, metric in _report(runs, tmp_path / "out").main.best)


def test_differences_are_corrected_over_the_stated_family(lab, tmp_path):
    result = _report(lab, tmp_path)
    frame = result.main.frame.set_index("method")
    tested = [metric for metric in result.main.metrics if metric != "entropy"]
    p = {(name, m): frame.loc[name, f"{m}_diff_p"] for name in frame.index for m in tested if name != "grpo"}
    adjusted = {(name, m): frame.loc[name, f"{m}_diff_p_holm"] for name, m in p}
    assert len(p) == 9
    assert adjusted == pytest.approx(holm(p))
    assert all(adjusted[key] >= p[key] for key in p)
    assert frame.loc["grpo", [f"{m}_diff_p" for m in tested]].isna().all()
    assert frame["entropy_diff_p"].isna().all()
    for name, metric in p:  # test and interval agree up to one resample
        low, high = frame.loc[name, f"{metric}_diff_low"], frame.loc[name, f"{metric}_diff_high"]
        assert (p[name, metric] > 0.051) <= (low <= 0 <= high)
        assert (p[name, metric] < 0.049) <= (not low <= 0 <= high)
    caption = " ".join(result.main.caption)
    assert "crossed-bootstrap test" in caption
    assert "Holm's method over all tested rows x pass@1, pass@8, distinct_correct of a task and split" in caption


def test_published_results_are_never_in_main_csv(lab, tmp_path):
    result = build_report([str(lab)], out=tmp_path, formats=["csv", "md", "tex", "term"])
    assert "published" not in (tmp_path / "main.csv").read_text()
    for name in ("main.md", "main.tex"):
        assert "ProGRPO (published)" in (tmp_path / name).read_text()
    published = pd.read_csv(tmp_path / "published.csv").set_index(["method", "model"])
    assert published.loc[("ProGRPO (published)", "Qwen2.5-7B"), "pass@32"] == 0.685
    assert published.loc[("GRPO (published)", "Qwen2.5-7B"), "pass@1"] == 0.376
    assert set(published["source"]) == {"arXiv 2602.05281"}
    assert "not measured here" in " ".join(result.published.caption)


def test_the_tidy_frame_has_one_row_per_run_task_and_metric(lab, tmp_path):
    _report(lab, tmp_path)
    frame = pd.read_csv(tmp_path / "frame.csv")
    assert len(frame) == 7 * 4
    assert not frame.duplicated(["run", "task", "split", "metric"]).any()
    row = frame.query("run == 'a0.3-s1' and metric == 'pass@8'").iloc[0]
    scores = make_scores(seed=31, rate=0.39)
    assert row["value"] == pytest.approx(np.mean(_per_problem(scores, 8)), abs=1e-6)
    assert (row["samples"], row["correct"]) == (40 * 16, sum(right for _, _, right in scores["counts"]))
    assert (row["seed"], row["n"], row["source"]) == (1, 16, f"{lab} (run directories)")
    assert json.loads(row["parameters"])["method.arm.alpha"] == 0.3


def test_different_versions_are_noted(lab, tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "a", "method=grpo", scores=_scored())
    other = _run(runs, "b", "method=progrpo", scores=_scored(seed=2))
    other.update(progrpo="0.0.1")
    notes = _report(runs, tmp_path / "out").notes
    assert len([note for note in notes if "different versions of progrpo: 0.0.1 (1 runs)" in note]) == 1
