import json
import logging
import shutil

import pandas as pd
import pytest
import yaml
from made_up_runs import make_scores, write_run
from wandb_log import finished_run

from progrpo_cli.errors import RequestError
from progrpo_cli.reporting.build import build_report
from progrpo_cli.reporting.reading.record import from_tracked
from progrpo_cli.reporting.reading.run_directories import read_curves
from progrpo_cli.reporting.reading.sources import read
from progrpo_cli.tracking.tracked_run import TrackedRun

pytestmark = pytest.mark.usefixtures("no_figures")

NUMBERS = ("main.csv", "ablation-method.arm.alpha.csv")


def _texts(sources, out):
    build_report(sources, out=out, formats=["csv"])
    return {name: (out / name).read_text() for name in NUMBERS}


def _without_wandb(lab, tmp_path):
    copy = tmp_path / "runs"
    shutil.copytree(lab, copy, ignore=shutil.ignore_patterns("wandb"))
    return copy


def test_all_sources_give_the_same_tables(lab, tmp_path):
    from_directories = _texts([str(lab)], tmp_path / "a")
    from_wandb_alone = _texts([f"wandb-offline:{lab}"], tmp_path / "b")
    plain = _without_wandb(lab, tmp_path)
    from_own_files = _texts([str(plain)], tmp_path / "c")
    one_by_one = _texts([str(lab / "study"), *(str(p) for p in lab.iterdir() if p.name != "study")], tmp_path / "d")
    assert from_directories == from_wandb_alone == from_own_files == one_by_one
    assert "pass@8_low" in from_wandb_alone["main.csv"]
    assert not list(plain.rglob("*.wandb"))
    origins = [pd.read_csv(tmp_path / name / "provenance.csv")["source"].unique().tolist() for name in "abc"]
    assert origins == [[f"{lab} (run directories)"], [f"{lab} (offline W&B files)"], [f"{plain} (run directories)"]]


def test_directories_and_wandb_files_give_equal_records(lab, tmp_path):
    def shape(run):
        curves = {name: values.tolist() for name, values in run.curves.values.items()}
        scores = {key: json.loads(text) for key, text in run.scores.items()}
        about = (run.id, run.name, run.group, run.config, run.status)
        return (*about, scores, run.curves.steps.tolist(), curves, run.curves.not_finite)

    logged = sorted(read([f"wandb-offline:{lab}"]).runs, key=lambda run: run.id)
    own = sorted(read([str(_without_wandb(lab, tmp_path))]).runs, key=lambda run: run.id)
    assert len(own) == 7
    for one, other in zip(logged, own, strict=True):
        assert repr(shape(one)) == repr(shape(other))  # NaN is not equal to itself
    assert {run.group for run in own} == {None, "study"}
    trained = [run for run in own if run.curves.steps.size]
    assert {len(run.curves.steps) for run in trained} == {20}
    for run in trained:
        assert run.curves.not_finite == ({"arm/shift_std": 1} if run.config["method"]["arm"] else {})


def test_a_directory_is_read_from_its_own_files_not_the_trackers(tmp_path):
    run = write_run(tmp_path / "runs" / "r", "method=grpo", scores=[make_scores(seed=1, rate=0.5)])
    (log,) = (run.path / "wandb").glob("offline-run-*/*.wandb")
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 3])
    (own,) = read([str(tmp_path / "runs")]).runs
    assert own.curves.steps.tolist() == list(range(1, 21))
    assert own.scores
    loaded = read([f"wandb-offline:{tmp_path / 'runs'}"])
    (cut,) = loaded.runs
    assert len(cut.curves.steps) < 20
    assert cut.damaged_records == 1
    assert any("1 damaged records" in note for note in loaded.notes)


def test_lines_that_are_cut_or_out_of_order_affect_no_others(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": step, "reward": step / 10, "note": "text"} for step in (1, 2, 3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "rew')
    curves = read_curves(path)
    assert curves.steps.tolist() == [1, 2, 3]
    assert curves.values["reward"].tolist() == [0.1, 0.2, 0.3]
    again = [{"step": 2, "reward": 9.0}, {"step": 2, "entropy": 1.0}, {"step": 1, "reward": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *again]))
    curves = read_curves(path)
    assert curves.steps.tolist() == [1, 2, 3]
    assert curves.values["reward"].tolist() == [0.1, 9.0, 0.3]
    assert curves.values["entropy"][1] == 1.0
    path.write_text('{"step": 1, "reward": NaN}\n{"step": 2, "reward": Infinity}\n{"step": 3, "reward": 0.5}\n')
    assert read_curves(path).not_finite == {"reward": 2}
    path.write_text("")
    assert read_curves(path).steps.size == 0
    path.write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(ValueError, match="line 2: not JSON"):
        read_curves(path)


def test_directories_that_begin_with_a_dot_are_left_out(lab, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(lab / "grpo-s0", runs / "grpo-s0")
    shutil.copytree(lab / "grpo-s1", runs / ".replaced" / "grpo-s1-20260101")
    shutil.copytree(lab / "study", runs / ".hidden")
    assert [run.name for run in read([str(runs)]).runs] == ["grpo-s0"]
    assert [run.name for run in read([f"wandb-offline:{runs}"]).runs] == ["grpo-s0"]


def test_a_run_in_two_sources_counts_once(lab):
    loaded = read([str(lab), f"wandb-offline:{lab / 'grpo-s0'}"])
    assert len(loaded.runs) == 7
    assert [note for note in loaded.notes if "counted once" in note and "grpo-s0" in note]


def test_directories_that_are_not_runs_are_skipped_with_a_note_each(lab, tmp_path, caplog):
    import wandb

    runs = tmp_path / "runs"
    shutil.copytree(lab / "grpo-s0", runs / "grpo-s0")
    (runs / "half").mkdir()
    (runs / "half" / "manifest.json").write_text('{"kind": "run", "config_ha')
    (runs / "other").mkdir()
    (runs / "other" / "manifest.json").write_text('{"name": "a web page"}')
    (runs / "other" / "config.yaml").write_text("- 1\n")
    write_run(runs / "unscored", "method=grpo", "seed=7", status="interrupted")
    settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
    wandb.init(
        project="else", dir=tmp_path, mode="offline", name="foreign", config={"lr": 1}, settings=settings
    ).finish()
    finished_run(tmp_path / "wandb")
    (tmp_path / "wandb" / "broken.wandb").write_bytes(b"nothing of the kind")
    with caplog.at_level(logging.WARNING, logger="progrpo"):
        result = build_report([str(runs), f"wandb-offline:{tmp_path / 'wandb'}"], out=tmp_path / "out", formats=["md"])
    assert result.main.frame["method"].tolist() == ["grpo"]
    for expected in (
        "half skipped",
        "other skipped",
        "unscored (interrupted) has no scores",
        "foreign is of another project",
    ):
        assert len([note for note in result.notes if expected in note]) == 1, (expected, result.notes)
        assert expected in caplog.text
    assert "half skipped" in (tmp_path / "out" / "main.md").read_text().replace("\\", "")
    assert len([note for note in result.notes if "not a W&B transaction log" in note]) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no runs under nowhere: no such directory"),
        ("wandb-offline:nowhere", "no runs under nowhere: no such directory"),
        (".", r"no runs under \."),
    ],
)
def test_sources_without_runs_are_refused(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=message) as raised:
        read([source])
    assert "\n" not in str(raised.value)


def test_the_default_source_is_runs(lab, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="no runs under runs"):
        read([])
    (tmp_path / "runs").symlink_to(lab)
    assert len(read([]).runs) == 7


def test_values_too_large_for_figures_are_counted_and_left_out(tmp_path):
    huge = "1" + "0" * 400
    lines = ['{"step": 1, "reward": 0.1}', '{"step": 1e300, "reward": 0.2}', f'{{"step": {huge}, "reward": 0.2}}']
    text = "\n".join([*lines, f'{{"step": 2, "reward": {huge}}}', f'{{"step": 3, "reward": -{huge}}}']) + "\n"
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    rows = [json.loads(line) for line in text.splitlines()]
    about = {"id": "x", "name": "x", "group": None, "tags": (), "config": {}, "summary": {}, "status": "finished"}
    tracked = TrackedRun(**about, history=rows, started=0.0, damaged_records=0, path="a/b/x")
    for curves in (read_curves(path), from_tracked(tracked).curves):
        assert curves.steps.tolist() == [1, 2, 3]
        assert curves.values["reward"].tolist()[0] == 0.1
        assert curves.not_finite == {"step": 2, "reward": 2}
    run = write_run(tmp_path / "runs" / "r", "method=grpo", scores=[make_scores(seed=1, rate=0.5)], wandb="disabled")
    run.metrics_path.write_text(text)
    result = build_report([str(tmp_path / "runs")], out=tmp_path / "out", formats=["csv"])
    assert result.main.frame["method"].tolist() == ["grpo"]
    (note,) = [
        note for note in result.notes if note.startswith("step: 2 logged values that are not valid steps are left out")
    ]
    assert str(run.path) in note


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("model", "path", ["a", "b"], "model.path is ['a', 'b'], not text"),
        ("train", "steps", 10**400, "OverflowError"),
    ],
    ids=["a list", "a huge number"],
)
def test_an_invalid_configuration_skips_only_its_run(tmp_path, section, key, value, message):
    runs = tmp_path / "runs"
    write_run(runs / "good", "method=grpo", scores=[make_scores(seed=1, rate=0.5)], wandb="disabled")
    odd = write_run(runs / "odd", "method=grpo", "seed=1", scores=[make_scores(seed=2, rate=0.5)], wandb="disabled")
    config = yaml.safe_load(odd.config_path.read_text())
    config[section][key] = value
    odd.config_path.write_text(yaml.safe_dump(config))
    result = build_report([str(runs)], out=tmp_path / "out", formats=["csv"])
    assert result.main.frame[["method", "seeds"]].values.tolist() == [["grpo", 1]]
    assert [note for note in result.notes if f"{odd.path} skipped" in note and message in note]
