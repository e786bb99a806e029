"""Training budgets in tables and caveats."""

import json

import pandas as pd
import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.reporting.build import build_report

pytestmark = pytest.mark.usefixtures("no_figures")
COLUMNS = ["updates", "samples_drawn", "tokens_drawn", "train_seconds"]


def _run(runs, name, *overrides, seed=1, drawn=None, steps=20, **options):
    scores = options.pop("scores", [make_scores(seed=seed, rate=0.5)])
    options = {"wandb": "disabled", **options}
    return write_run(runs / name, *overrides, scores=scores, drawn=drawn, steps=steps, **options)


def _report(runs, out, formats=("csv", "md", "html", "tex")):
    return build_report([str(runs)], out=out, formats=formats)


def read_caveats(out):
    page = (out / "index.html").read_text()
    return page.partition("Caveats")[2].partition("</ul>")[0]


def test_counted_budgets_take_precedence_over_configurations(tmp_path):
    """dapo and grpo have the same configuration of rollouts, but dapo drew more samples."""
    runs = tmp_path / "runs"
    for seed, drawn in enumerate((64, 66)):
        _run(runs, f"g{seed}", "method=grpo", f"seed={seed}", drawn=64, seed=seed)
        _run(runs, f"d{seed}", "method=dapo", f"seed={seed}", drawn=drawn * 3, seed=seed + 5)
    _run(runs, "eval-base", kind="model")
    result = _report(runs, tmp_path / "out")
    main = pd.read_csv(tmp_path / "out" / "main.csv").set_index("method")
    assert main.loc["grpo", COLUMNS].tolist() == [20, 1280, 12800, 1.28]
    assert main.loc["dapo", COLUMNS].tolist() == [20, 3900, 39000, 3.9]
    assert main.loc["base", COLUMNS].isna().all()
    text = (tmp_path / "out" / "main.csv").read_text()
    assert ",20,3900,39000,3.9," in text  # whole numbers, in full
    text = read_caveats(tmp_path / "out")
    assert "samples_drawn from 1,280 (grpo) to 3,900 (dapo); tokens_drawn from 12,800 (grpo) to 39,000 (dapo)." in text
    assert "updates from" not in text
    assert "unknown" not in text
    markdown = (tmp_path / "out" / "main.md").read_text()
    assert "training budget, mean per run" in markdown
    assert "| dapo | 2 | 20 | 3,900 | 39,000 | 4 |" in markdown
    latex = (tmp_path / "out" / "main.tex").read_text()
    assert latex.count(r"\label{tab:main}") == latex.count(r"\label{tab:main-budget}") == 1
    provenance = result.provenance.frame.set_index("run")
    assert provenance.loc["d1", COLUMNS].tolist() == [20, 3960, 39600, 3.96]
    assert provenance.loc["eval-base", COLUMNS].isna().all()


def test_equal_budgets_give_no_caveat(tmp_path):
    _run(tmp_path / "runs", "g", "method=grpo", drawn=64)
    _run(tmp_path / "runs", "p", "method=progrpo", drawn=64)
    _report(tmp_path / "runs", tmp_path / "out")
    assert "budget" not in read_caveats(tmp_path / "out")


def test_uncounted_budgets_are_unknown(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "g0", "method=grpo")
    _run(runs, "g1", "method=grpo", "seed=1", drawn=64, seed=2)
    _run(runs, "d", "method=dapo", drawn=64)
    _report(runs, tmp_path / "out")
    main = pd.read_csv(tmp_path / "out" / "main.csv").set_index("method")
    assert main.loc["grpo", "updates"] == 20
    assert main.loc["grpo", COLUMNS[1:]].isna().all()
    assert "| grpo | 2 | 20 | unknown | unknown | unknown |" in (tmp_path / "out" / "main.md").read_text()
    text = read_caveats(tmp_path / "out")
    assert "The number of samples is unknown for grpo: it was not counted during their training." in text
    assert "same budget" not in text


def test_without_counts_configurations_are_compared(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "g", "method=grpo")
    _run(runs, "p", "method=progrpo", "train.prompts_per_rollout=64")
    _report(runs, tmp_path / "out")
    assert "equally many updates on equally many samples" in read_caveats(tmp_path / "out")
    assert "training budget" not in (tmp_path / "out" / "main.md").read_text()


def test_ablations_have_budgets(tmp_path):
    for alpha in (0.3, 1.0):
        _run(tmp_path / "runs", f"a{alpha}", f"method.arm.alpha={alpha}", drawn=int(100 * alpha))
    _report(tmp_path / "runs", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "ablation-method.arm.alpha.csv")
    assert table["samples_drawn"].tolist() == [600, 2000]
    assert "| progrpo | 0.3 | 1 | 20 | 600 |" in (tmp_path / "out" / "ablation-method.arm.alpha.md").read_text()


def test_budgets_are_equal_from_wandb_and_from_files_cut_by_a_crash(tmp_path):
    runs = tmp_path / "runs"
    run = _run(runs, "g", "method=grpo", drawn=64, wandb="offline")
    with run.metrics_path.open("a") as file:
        file.write('{"step": 21, "samples_dra')
    _report(runs, tmp_path / "a", ("csv",))
    build_report([f"wandb-offline:{runs}"], out=tmp_path / "b", formats=("csv",))
    texts = [(tmp_path / name / "main.csv").read_text() for name in "ab"]
    assert texts[0] == texts[1]
    assert ",20,1280,12800,1.28," in texts[0]


def test_provenance_has_the_digests_of_method_and_judge(tmp_path):
    runs = tmp_path / "runs"
    run = _run(runs, "new", "method=grpo")
    sources = {"method": {"sha256": "a" * 64}, "judge": {"sha256": "b" * 64}}
    changed = {**sources, "judge": {"sha256": "c" * 64}}
    run.update(sources=sources, sources_since=[{"at": "later", **changed}])
    _run(runs, "old", "method=grpo", "seed=1", seed=2)
    frame = _report(runs, tmp_path / "out", ("csv",)).provenance.frame.set_index("run")
    assert frame.loc["new", ["method_source", "judge_source"]].tolist() == ["a" * 12, f"{'b' * 12}+{'c' * 12}"]
    assert frame.loc["old", ["method_source", "judge_source"]].isna().all()


def test_training_problems_are_shown_beside_the_tests_on_request(tmp_path):
    runs = tmp_path / "runs"
    group = "train.group_size=4"
    trained = [make_scores(seed=1, rate=0.4), make_scores(seed=2, rate=0.7, split="rl")]
    run = _run(runs, "g", "method=grpo", group, steps=0, scores=trained)
    lines = [{"step": step, "pass@1": step / 100, "pass@4": step / 50} for step in range(1, 21)]
    run.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _run(runs, "p", "method=progrpo", group, seed=3)
    without = _report(runs, tmp_path / "without", ("csv",))
    assert not without.training
    assert not (tmp_path / "without" / "training.csv").exists()
    main = pd.read_csv(tmp_path / "without" / "main.csv").set_index(["method", "split"])
    assert list(main.index) == [("grpo", "test"), ("progrpo", "test"), ("grpo", "rl")]
    build_report([str(runs)], out=tmp_path / "out", formats=("csv", "md", "html"), training=True)
    table = pd.read_csv(tmp_path / "out" / "training.csv").set_index("method")
    grpo = table.loc["grpo"]
    assert grpo["rollouts_pass@1"] == pytest.approx((0.19 + 0.20) / 2)  # the last tenth of 20 updates
    assert grpo["rollouts_pass@4"] == pytest.approx((0.38 + 0.40) / 2)
    train, test = main.loc[("grpo", "rl"), "pass@8"], main.loc[("grpo", "test"), "pass@8"]
    assert grpo[["train_pass@8", "test_pass@8"]].tolist() == pytest.approx([train, test], abs=1e-4)
    assert grpo["gap_pass@8"] == pytest.approx(train - test, abs=1e-4)
    assert table.loc["progrpo", ["train_pass@8", "gap_pass@8"]].isna().all()
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Training problems beside the test" in page
    assert "--training" in page.partition("Made this report")[2]
    assert "Split rl: the problems used for training" in (tmp_path / "out" / "main.md").read_text()


def test_training_problems_alone_give_a_caveat(tmp_path):
    runs = tmp_path / "runs"
    _run(runs, "g", "method=grpo", scores=[make_scores(seed=2, rate=0.7, split="rl")])
    _report(runs, tmp_path / "out")
    assert "only training problems here" in read_caveats(tmp_path / "out")
    _run(runs, "v", "method=grpo", "seed=1", scores=[make_scores(seed=2, rate=0.7, split="validation")])
    _report(runs, tmp_path / "both")
    assert "only training problems here" not in read_caveats(tmp_path / "both")
