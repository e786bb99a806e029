"""Which evaluations a report compares: those with matching measures; other sampling gives other rows."""

import itertools

import numpy as np
import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.errors import WorkError
from progrpo_cli.reporting.analysis import dataset
from progrpo_cli.reporting.analysis.ablations import ablation_tables
from progrpo_cli.reporting.analysis.caption import caption
from progrpo_cli.reporting.analysis.compare import comparable_groups, compare
from progrpo_cli.reporting.analysis.figure_data import plane
from progrpo_cli.reporting.analysis.main_table import choose_ks, main_table
from progrpo_cli.reporting.analysis.summary import findings, how_to_read
from progrpo_cli.reporting.reading.sources import read

HF = {"backend": "hf", "dtype": "float32"}
VLLM = {"backend": "vllm", "dtype": "bfloat16"}


def write(runs, name, *overrides, scores):
    write_run(runs / name, *overrides, scores=scores, wandb="disabled", steps=0)


def score_file(seed=1, **changes):
    return make_scores(**{"seed": seed, "rate": 0.5, **changes})


def build_report_data(runs, *, mixed=False, baseline="grpo"):
    """The dataset, the loaded runs and the main table of a report, without files."""
    loaded = read([str(runs)])
    data = dataset.build_dataset(loaded, mixed=mixed)
    return data, loaded, main_table(data, loaded, ks=[1, 4], baseline=baseline)


def test_two_back_ends_are_not_subtracted(tmp_path):
    """They used to get a paired difference and a p without a note."""
    write(tmp_path, "a", "method=grpo", scores=[score_file(**HF)])
    write(tmp_path, "b", "method=progrpo", scores=[score_file(2, rate=0.8, **VLLM)])
    with pytest.raises(WorkError, match=r"back end hf, dtype float32 in a; back end vllm, dtype bfloat16 in b;"):
        build_report_data(tmp_path)
    data, _, main = build_report_data(tmp_path, mixed=True)
    assert [row.name for row in data.rows] == [
        "grpo [back end hf, dtype float32]",
        "progrpo [back end vllm, dtype bfloat16]",
    ]
    assert main.frame["pass@1_diff"].isna().all()
    assert main.frame["pass@1_diff_p"].isna().all()
    assert not main.best
    assert not any("corrected p" in sentence for sentence in findings(data, main))


def test_the_commonest_measure_is_reported_and_others_are_named(tmp_path):
    for seed in range(2):
        write(tmp_path, f"g{seed}", "method=grpo", f"seed={seed}", scores=[score_file(seed, **HF)])
    write(tmp_path, "p", "method=progrpo", scores=[score_file(3, **VLLM)])
    data, loaded, _ = build_report_data(tmp_path)
    assert [(row.name, len(row.evaluations)) for row in data.rows] == [("grpo", 2)]
    (note,) = [note for note in loaded.notes if "left out" in note]
    assert "p: countdown-test0 (back end vllm against hf, dtype bfloat16 against float32)" in note


@pytest.mark.parametrize("newest", ["hf", "vllm"])
def test_another_back_end_is_left_out_whatever_the_order(tmp_path, newest):
    times = {"hf": "2026-11-24", "vllm": "2026-11-24", newest: "2026-11-25"}
    both = [score_file(**HF, scored_at=times["hf"]), score_file(2, **VLLM, scored_at=times["vllm"])]
    write(tmp_path, "twice", "method=grpo", scores=both)
    data, loaded, _ = build_report_data(tmp_path)
    ((evaluation,),) = [row.evaluations for row in data.rows]
    assert evaluation.measure.backend == "hf"
    assert not any("measured again" in note for note in loaded.notes)
    assert any("twice: countdown-test1 (back end vllm against hf" in note for note in loaded.notes)
    mixed, _, _ = build_report_data(tmp_path, mixed=True)
    assert len(mixed.rows) == 2


def test_runs_with_a_limit_are_left_out_with_their_numbers_of_problems(tmp_path):
    for name, method, problems in (("a", "grpo", 300), ("b", "progrpo", 300), ("c", "gspo", 40)):
        write(tmp_path, name, f"method={method}", scores=[score_file(problems=problems, task_version=f"of {problems}")])
    data, loaded, main = build_report_data(tmp_path)
    assert [row.label for row in data.rows] == ["grpo", "progrpo"]
    assert main.frame["problems"].tolist() == [300, 300]
    (note,) = [note for note in loaded.notes if "left out" in note]
    assert note.endswith("c: countdown-test0 (40 against 300 problems)")


def test_of_two_runs_the_one_with_fewer_problems_is_left_out(tmp_path):
    write(tmp_path, "a", "method=grpo", scores=[score_file(problems=40)])
    write(tmp_path, "b", "method=progrpo", scores=[score_file(problems=300)])
    data, loaded, _ = build_report_data(tmp_path)
    assert [row.label for row in data.rows] == ["progrpo"]
    assert any("a: countdown-test0 (40 against 300 problems)" in note for note in loaded.notes)


@pytest.mark.parametrize("order", itertools.permutations([0.5, 1.0, 1.5]))
def test_temperatures_are_rows_of_one_table_in_any_order(tmp_path, order):
    """The newest evaluation used to win silently, so that the order changed Pass@4 from 0.464 to 0.570."""
    at = {temperature: f"2026-11-2{order.index(temperature)}" for temperature in order}

    def of(seed, rate):
        return [score_file(seed, rate=rate / t, temperature=t, scored_at=at[t]) for t in (1.5, 0.5, 1.0)]

    write(tmp_path, "a", "method=grpo", scores=of(1, 0.3))
    write(tmp_path, "b", "method=progrpo", scores=of(2, 0.5)[:2])
    data, loaded, main = build_report_data(tmp_path)
    assert [row.name for row in data.rows] == [
        *(f"grpo [temperature {t}]" for t in ("0.5", "1", "1.5")),
        *(f"progrpo [temperature {t}]" for t in ("0.5", "1.5")),
    ]
    assert main.frame["temperature"].tolist() == [0.5, 1.0, 1.5, 0.5, 1.5]
    assert not any("left out" in note for note in loaded.notes)
    table = main.frame.set_index("method")
    for t in ("0.5", "1.5"):
        row, base = f"progrpo [temperature {t}]", f"grpo [temperature {t}]"
        assert table.loc[row, "baseline"] == base
        assert table.loc[row, "pass@4_diff"] == pytest.approx(table.loc[row, "pass@4"] - table.loc[base, "pass@4"])
    assert [len(rows) for rows in comparable_groups(data.rows)] == [2, 1, 2]
    text = " ".join(caption(data.rows, loaded))
    assert "temperature 0.5, 1 or 1.5; 1 seed per row" in text
    assert "NOT measured in the same way" not in text
    sentences = [s for s in findings(data, main) if "pass@4" in s and "methods are not tested" in s]
    assert len(sentences) == 3, "one sentence per temperature"
    assert findings(data, main)[-1].startswith(
        "How to read it: pass@1 is how often one answer is right, pass@4 how often"
    )
    assert how_to_read(["pass@1", "entropy"]) == []


def test_ablations_have_one_sampling_and_the_plane_has_every_row(tmp_path):
    for alpha, rate in ((0.3, 0.3), (1.0, 0.6)):
        scores = [score_file(1, rate=rate), score_file(2, rate=rate / 2, temperature=0.5)]
        write(tmp_path, f"a{alpha}", f"method.arm.alpha={alpha}", scores=scores)
    data, loaded, main = build_report_data(tmp_path, baseline=None)
    (table,) = ablation_tables(data, main, loaded)
    assert table.frame[["method", "method.arm.alpha"]].values.tolist() == [
        [f"progrpo [temperature {t}]", alpha] for t in ("0.5", "1") for alpha in (0.3, 1.0)
    ]
    points = plane([data.rows], "pass@4")
    assert points["method"].tolist() == [row.name for row in data.rows]
    assert points["line"].isna().all()  # only the base's temperatures have a line
    only = f"{tmp_path}/a0.3"
    data, loaded, main = build_report_data(only, baseline=None)
    assert ablation_tables(data, main, loaded) == []  # temperature is not a setting of the method


def test_top_p_separates_rows_and_seeds_are_pooled_within_it(tmp_path):
    for seed in range(2):
        scores = [score_file(seed, top_p=1.0), score_file(seed + 5, top_p=0.9)]
        write(tmp_path, f"g{seed}", "method=grpo", f"seed={seed}", scores=scores)
    data, _, _ = build_report_data(tmp_path)
    assert [(row.name, len(row.evaluations)) for row in data.rows] == [("grpo [top-p 0.9]", 2), ("grpo [top-p 1]", 2)]


def test_fields_missing_in_an_old_file_are_assumed_equal_with_a_footnote(tmp_path):
    write(tmp_path, "old", "method=grpo", scores=[score_file()])
    write(tmp_path, "new", "method=progrpo", scores=[score_file(2, **VLLM, task_version="x")])
    data, _, main = build_report_data(tmp_path)
    assert [row.name for row in data.rows] == ["grpo", "progrpo"]
    assert main.frame["pass@1_diff"].notna().tolist() == [False, True]
    (text,) = [sentence for sentence in main.caption if "assumed to be equal" in sentence]
    assert "2 of 2 scores" in text
    for name in ("prompts", "back end", "dtype", "stop tokens"):
        assert name in text
    write(tmp_path, "other", "method=gspo", scores=[score_file(3, **HF)])
    with pytest.raises(WorkError, match="back end"):  # missing fields match both, but the two differ
        build_report_data(tmp_path)


def test_different_n_can_be_compared(tmp_path):
    write(tmp_path, "more", "method=grpo", scores=[score_file(1, n=64)])
    write(tmp_path, "less", "method=progrpo", scores=[score_file(2, n=32)])
    data, loaded, main = build_report_data(tmp_path)
    assert [row.name for row in data.rows] == ["grpo", "progrpo"]
    assert main.frame["n"].tolist() == [64, 32]
    assert main.frame["pass@4_diff"].notna().tolist() == [False, True]
    assert main.frame["distinct_correct_diff"].isna().all()  # depends on n
    assert main.frame["distinct_correct"].notna().all()
    assert "n = 32 or 64 samples per problem" in " ".join(main.caption)
    assert choose_ks(data.rows, [64], loaded) == [64]
    assert any("rows with fewer than 64 samples per problem have no pass@64" in note for note in loaded.notes)
    assert compare(data.rows, "pass@64", "grpo").keys() == {"grpo"}


def test_seeds_with_different_n_are_pooled_in_metrics_that_do_not_depend_on_n(tmp_path):
    scores = [score_file(1, n=64), score_file(2, n=32)]
    for seed, seed_scores in enumerate(scores):
        write(tmp_path, f"g{seed}", "method=grpo", f"seed={seed}", scores=[seed_scores])
    (row,) = build_report_data(tmp_path)[0].rows
    assert row.n == 32
    expected = np.mean([np.mean([right / n for _, n, right in s["counts"]]) for s in scores])
    assert row.values("pass@1").mean() == pytest.approx(expected)
    assert row.values("distinct_correct") is None
    assert row.values("pass@64") is None


def test_a_seed_counts_once_with_the_shared_or_the_largest_n(tmp_path):
    write(tmp_path, "a", "method=grpo", scores=[score_file(1, n=16), score_file(2, n=64)])
    data, loaded, _ = build_report_data(tmp_path)
    assert [[e.n for e in row.evaluations] for row in data.rows] == [[64]]
    assert any("a: countdown-test0 (test, n = 16) left out; the same policy with n = 64" in n for n in loaded.notes)
    write(tmp_path, "b", "method=progrpo", scores=[score_file(3, n=16)])
    data, loaded, _ = build_report_data(tmp_path)
    assert [[e.n for e in row.evaluations] for row in data.rows] == [[16], [16]]
    assert any("a: countdown-test1 (test, n = 64) left out" in note for note in loaded.notes)


def test_judge_versions_are_not_compared_and_are_named(tmp_path):
    write(tmp_path, "a", "method=grpo", scores=[score_file(1)])
    write(tmp_path, "b", "method=progrpo", scores=[score_file(2, judge_version=2)])
    with pytest.raises(WorkError, match=r"judge version 2 in b; judge version 1 in a"):
        build_report_data(tmp_path)
    write(tmp_path, "a2", "method=grpo", "seed=1", scores=[score_file(1, judge_version=2)])
    data, loaded, main = build_report_data(tmp_path)
    assert [row.label for row in data.rows] == ["grpo", "progrpo"]
    assert any("a: countdown-test0 (judge version 1 against 2)" in note for note in loaded.notes)
    assert any("versions above 1: judge 2" in sentence for sentence in main.caption)


def test_runs_of_two_versions_of_a_method_are_two_rows(tmp_path, monkeypatch):
    from progrpo_cli.methods.registry import method_classes

    write(tmp_path, "old", "method=grpo", scores=[score_file(1)])
    monkeypatch.setattr(method_classes()["grpo"], "version_of_code", 2)
    write(tmp_path, "new", "method=grpo", "seed=1", scores=[score_file(2)])
    data, loaded, main = build_report_data(tmp_path, baseline=None)
    assert [row.name for row in data.rows] == ["grpo (method.version=1)", "grpo (method.version=2)"]
    assert any("method grpo 2" in sentence for sentence in main.caption)
    assert ablation_tables(data, main, loaded) == []  # versions of the code are not swept


def test_a_key_that_contradicts_the_file_is_left_out(tmp_path):
    measure = {"task": "countdown", "split": "test", "problem_ids": "x", "max_new_tokens": 24}
    key = {"measure": measure, "sampling": {"temperature": 0.5, "top_p": 1.0}}
    write(tmp_path, "bad", "method=grpo", scores=[score_file(comparable_key=key)])
    write(tmp_path, "good", "method=progrpo", scores=[score_file(2)])
    data, loaded, _ = build_report_data(tmp_path)
    assert [row.label for row in data.rows] == ["progrpo"]
    assert any("comparable_key contradicts" in note for note in loaded.notes)
