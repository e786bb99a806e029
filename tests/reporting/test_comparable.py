"""What may be set against each other in a report: measured alike; other sampling is another row of the same table."""

import itertools

import numpy as np
import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.errors import WorkError
from progrpo_cli.reporting.analysis import dataset
from progrpo_cli.reporting.analysis.ablations import ablation_tables
from progrpo_cli.reporting.analysis.caption import caption
from progrpo_cli.reporting.analysis.compare import alike, compare
from progrpo_cli.reporting.analysis.figure_data import plane
from progrpo_cli.reporting.analysis.main_table import choose_ks, main_table
from progrpo_cli.reporting.analysis.summary import findings, how_to_read
from progrpo_cli.reporting.reading.sources import read

HF = {"backend": "hf", "dtype": "float32"}
VLLM = {"backend": "vllm", "dtype": "bfloat16"}


def write(runs, name, *overrides, scores):
    write_run(runs / name, *overrides, scores=scores, wandb="disabled", steps=0)


def scored(seed=1, **changes):
    return make_scores(**{"seed": seed, "rate": 0.5, **changes})


def built(runs, *, mixed=False, baseline="grpo"):
    """The frame, what was found and the main table: what a report says before anything is drawn."""
    found = read([str(runs)])
    made = dataset.build_dataset(found, mixed=mixed)
    return made, found, main_table(made, found, ks=[1, 4], baseline=baseline)


def test_two_back_ends_get_no_difference(tmp_path):
    """The example: it got a paired difference and a p without a word."""
    write(tmp_path, "a", "method=grpo", scores=[scored(**HF)])
    write(tmp_path, "b", "method=progrpo", scores=[scored(2, rate=0.8, **VLLM)])
    with pytest.raises(WorkError, match=r"back end hf, dtype float32 in a; back end vllm, dtype bfloat16 in b;"):
        built(tmp_path)
    made, _, main = built(tmp_path, mixed=True)
    assert [row.name for row in made.rows] == [
        "grpo [back end hf, dtype float32]",
        "progrpo [back end vllm, dtype bfloat16]",
    ]
    assert main.frame["pass@1_diff"].isna().all()
    assert main.frame["pass@1_diff_p"].isna().all()
    assert not main.best
    assert not any("corrected p" in sentence for sentence in findings(made, main))


def test_what_most_have_is_reported_and_the_others_are_named(tmp_path):
    for seed in range(2):
        write(tmp_path, f"g{seed}", "method=grpo", f"seed={seed}", scores=[scored(seed, **HF)])
    write(tmp_path, "p", "method=progrpo", scores=[scored(3, **VLLM)])
    made, found, _ = built(tmp_path)
    assert [(row.name, len(row.evaluations)) for row in made.rows] == [("grpo", 2)]
    (note,) = [note for note in found.notes if "left out" in note]
    assert "p: countdown-test0 (back end vllm against hf, dtype bfloat16 against float32)" in note


@pytest.mark.parametrize("newest", ["hf", "vllm"])
def test_another_back_end_is_no_second_measurement_and_the_order_decides_nothing(tmp_path, newest):
    times = {"hf": "2026-11-24", "vllm": "2026-11-24", newest: "2026-11-25"}
    both = [scored(**HF, scored_at=times["hf"]), scored(2, **VLLM, scored_at=times["vllm"])]
    write(tmp_path, "twice", "method=grpo", scores=both)
    made, found, _ = built(tmp_path)
    ((evaluation,),) = [row.evaluations for row in made.rows]
    assert evaluation.measure.backend == "hf"
    assert not any("measured again" in note for note in found.notes)
    assert any("twice: countdown-test1 (back end vllm against hf" in note for note in found.notes)
    mixed, _, _ = built(tmp_path, mixed=True)
    assert len(mixed.rows) == 2


def test_a_limit_blocks_nobody_and_is_told_in_numbers(tmp_path):
    for name, method, problems in (("a", "grpo", 300), ("b", "progrpo", 300), ("c", "gspo", 40)):
        write(tmp_path, name, f"method={method}", scores=[scored(problems=problems, task_version=f"of {problems}")])
    made, found, main = built(tmp_path)
    assert [row.label for row in made.rows] == ["grpo", "progrpo"]
    assert main.frame["problems"].tolist() == [300, 300]
    (note,) = [note for note in found.notes if "left out" in note]
    assert note.endswith("c: countdown-test0 (40 against 300 problems)")


def test_one_of_two_with_fewer_problems_is_left_out(tmp_path):
    write(tmp_path, "a", "method=grpo", scores=[scored(problems=40)])
    write(tmp_path, "b", "method=progrpo", scores=[scored(problems=300)])
    made, found, _ = built(tmp_path)
    assert [row.label for row in made.rows] == ["progrpo"]
    assert any("a: countdown-test0 (40 against 300 problems)" in note for note in found.notes)


@pytest.mark.parametrize("order", itertools.permutations([0.5, 1.0, 1.5]))
def test_temperatures_are_rows_of_one_table_whatever_their_order(tmp_path, order):
    """The example: the newest won silently, so that the order changed Pass@4 from 0.464 to 0.570."""
    at = {temperature: f"2026-11-2{order.index(temperature)}" for temperature in order}

    def of(seed, rate):
        return [scored(seed, rate=rate / t, temperature=t, scored_at=at[t]) for t in (1.5, 0.5, 1.0)]

    write(tmp_path, "a", "method=grpo", scores=of(1, 0.3))
    write(tmp_path, "b", "method=progrpo", scores=of(2, 0.5)[:2])
    made, found, main = built(tmp_path)
    assert [row.name for row in made.rows] == [
        *(f"grpo [temperature {t}]" for t in ("0.5", "1", "1.5")),
        *(f"progrpo [temperature {t}]" for t in ("0.5", "1.5")),
    ]
    assert main.frame["temperature"].tolist() == [0.5, 1.0, 1.5, 0.5, 1.5]
    assert not any("left out" in note for note in found.notes)
    table = main.frame.set_index("method")
    for t in ("0.5", "1.5"):
        row, base = f"progrpo [temperature {t}]", f"grpo [temperature {t}]"
        assert table.loc[row, "baseline"] == base
        assert table.loc[row, "pass@4_diff"] == pytest.approx(table.loc[row, "pass@4"] - table.loc[base, "pass@4"])
    assert [len(rows) for rows in alike(made.rows)] == [2, 1, 2]
    said = " ".join(caption(made.rows, found))
    assert "temperature 0.5, 1 or 1.5; 1 seed a row" in said
    assert "NOT measured alike" not in said
    told = [s for s in findings(made, main) if "pass@4" in s and "nothing is tested about methods" in s]
    assert len(told) == 3, "a sentence each temperature"
    assert findings(made, main)[-1].startswith(
        "How to read it: pass@1 is how often one answer is right, pass@4 how often"
    )
    assert how_to_read(["pass@1", "entropy"]) == []


def test_ablations_are_within_one_sampling_and_the_plane_has_every_row(tmp_path):
    for alpha, rate in ((0.3, 0.3), (1.0, 0.6)):
        scores = [scored(1, rate=rate), scored(2, rate=rate / 2, temperature=0.5)]
        write(tmp_path, f"a{alpha}", f"method.arm.alpha={alpha}", scores=scores)
    made, found, main = built(tmp_path, baseline=None)
    (table,) = ablation_tables(made, main, found)
    assert table.frame[["method", "method.arm.alpha"]].values.tolist() == [
        [f"progrpo [temperature {t}]", alpha] for t in ("0.5", "1") for alpha in (0.3, 1.0)
    ]
    points = plane([made.rows], "pass@4")
    assert points["method"].tolist() == [row.name for row in made.rows]
    assert points["line"].isna().all()  # temperatures of trained policies draw no line
    only = f"{tmp_path}/a0.3"
    made, found, main = built(only, baseline=None)
    assert ablation_tables(made, main, found) == []  # two temperatures are no setting of the method


def test_top_p_is_sampling_too_and_seeds_are_pooled_within_it(tmp_path):
    for seed in range(2):
        scores = [scored(seed, top_p=1.0), scored(seed + 5, top_p=0.9)]
        write(tmp_path, f"g{seed}", "method=grpo", f"seed={seed}", scores=scores)
    made, _, _ = built(tmp_path)
    assert [(row.name, len(row.evaluations)) for row in made.rows] == [("grpo [top-p 0.9]", 2), ("grpo [top-p 1]", 2)]


def test_what_an_old_file_does_not_say_is_compared_with_a_footnote(tmp_path):
    write(tmp_path, "old", "method=grpo", scores=[scored()])
    write(tmp_path, "new", "method=progrpo", scores=[scored(2, **VLLM, task_version="x")])
    made, _, main = built(tmp_path)
    assert [row.name for row in made.rows] == ["grpo", "progrpo"]
    assert main.frame["pass@1_diff"].notna().tolist() == [False, True]
    (said,) = [sentence for sentence in main.caption if "taken to be alike" in sentence]
    assert "2 of 2 scores" in said
    for name in ("prompts", "back end", "dtype", "stop tokens"):
        assert name in said
    write(tmp_path, "other", "method=gspo", scores=[scored(3, **HF)])
    with pytest.raises(WorkError, match="back end"):  # what is unknown goes with either, they do not go together
        built(tmp_path)


def test_n_is_no_part_of_the_rule(tmp_path):
    write(tmp_path, "more", "method=grpo", scores=[scored(1, n=64)])
    write(tmp_path, "less", "method=progrpo", scores=[scored(2, n=32)])
    made, found, main = built(tmp_path)
    assert [row.name for row in made.rows] == ["grpo", "progrpo"]
    assert main.frame["n"].tolist() == [64, 32]
    assert main.frame["pass@4_diff"].notna().tolist() == [False, True]
    assert main.frame["distinct_correct_diff"].isna().all()  # grows with n
    assert main.frame["distinct_correct"].notna().all()
    assert "n = 32 or 64 samples a problem" in " ".join(main.caption)
    assert choose_ks(made.rows, [64], found) == [64]
    assert any("rows with fewer than 64 samples a problem have no pass@64" in note for note in found.notes)
    assert compare(made.rows, "pass@64", "grpo").keys() == {"grpo"}


def test_seeds_with_other_n_are_pooled_in_what_does_not_depend_on_it(tmp_path):
    scores = [scored(1, n=64), scored(2, n=32)]
    for seed, of_seed in enumerate(scores):
        write(tmp_path, f"g{seed}", "method=grpo", f"seed={seed}", scores=[of_seed])
    (row,) = built(tmp_path)[0].rows
    assert row.n == 32
    expected = np.mean([np.mean([right / n for _, n, right in s["counts"]]) for s in scores])
    assert row.values("pass@1").mean() == pytest.approx(expected)
    assert row.values("distinct_correct") is None
    assert row.values("pass@64") is None


def test_a_seed_counts_once_with_the_samples_that_all_have_else_the_most(tmp_path):
    write(tmp_path, "a", "method=grpo", scores=[scored(1, n=16), scored(2, n=64)])
    made, found, _ = built(tmp_path)
    assert [[e.n for e in row.evaluations] for row in made.rows] == [[64]]
    assert any("a: countdown-test0 (test, n = 16) left out; the same policy with n = 64" in n for n in found.notes)
    write(tmp_path, "b", "method=progrpo", scores=[scored(3, n=16)])
    made, found, _ = built(tmp_path)
    assert [[e.n for e in row.evaluations] for row in made.rows] == [[16], [16]]
    assert any("a: countdown-test1 (test, n = 64) left out" in note for note in found.notes)


def test_judges_of_two_versions_are_not_compared_and_reports_name_versions(tmp_path):
    write(tmp_path, "a", "method=grpo", scores=[scored(1)])
    write(tmp_path, "b", "method=progrpo", scores=[scored(2, judge_version=2)])
    with pytest.raises(WorkError, match=r"judge version 2 in b; judge version 1 in a"):
        built(tmp_path)
    write(tmp_path, "a2", "method=grpo", "seed=1", scores=[scored(1, judge_version=2)])
    made, found, main = built(tmp_path)
    assert [row.label for row in made.rows] == ["grpo", "progrpo"]
    assert any("a: countdown-test0 (judge version 1 against 2)" in note for note in found.notes)
    assert any("versions above 1: judge 2" in sentence for sentence in main.caption)


def test_runs_of_two_versions_of_a_method_are_two_rows(tmp_path, monkeypatch):
    from progrpo_cli.methods.registry import method_classes

    write(tmp_path, "old", "method=grpo", scores=[scored(1)])
    monkeypatch.setattr(method_classes()["grpo"], "version_of_code", 2)
    write(tmp_path, "new", "method=grpo", "seed=1", scores=[scored(2)])
    made, found, main = built(tmp_path, baseline=None)
    assert [row.name for row in made.rows] == ["grpo (method.version=1)", "grpo (method.version=2)"]
    assert any("method grpo 2" in sentence for sentence in main.caption)
    assert ablation_tables(made, main, found) == []  # nobody sweeps the code's versions


def test_a_key_that_contradicts_the_file_is_damage(tmp_path):
    measure = {"task": "countdown", "split": "test", "problem_ids": "x", "max_new_tokens": 24}
    key = {"measure": measure, "sampling": {"temperature": 0.5, "top_p": 1.0}}
    write(tmp_path, "bad", "method=grpo", scores=[scored(comparable_key=key)])
    write(tmp_path, "good", "method=progrpo", scores=[scored(2)])
    made, found, _ = built(tmp_path)
    assert [row.label for row in made.rows] == ["progrpo"]
    assert any("comparable_key contradicts" in note for note in found.notes)
