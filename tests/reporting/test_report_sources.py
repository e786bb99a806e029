import json
import logging
import shutil

import pandas as pd
import pytest
from made_up_runs import make_scores, wait_for_the_log, write_run

from progrpo_cli.errors import RequestError
from progrpo_cli.reporting.sources import read
from progrpo_cli.reporting.write import build_report

pytestmark = pytest.mark.usefixtures("no_figures")

NUMBERS = ("main.csv", "ablation-method.arm.alpha.csv")


def _texts(sources, out):
    build_report(sources, out=out, formats=["csv"])
    return {name: (out / name).read_text() for name in NUMBERS}


def _without_wandb(lab, tmp_path):
    copy = tmp_path / "runs"
    shutil.copytree(lab, copy, ignore=shutil.ignore_patterns("wandb"))
    return copy


def test_the_same_runs_give_the_same_tables_however_they_are_read(lab, tmp_path):
    from_wandb_in_directories = _texts([str(lab)], tmp_path / "a")
    from_wandb_alone = _texts([f"wandb-offline:{lab}"], tmp_path / "b")
    plain = _without_wandb(lab, tmp_path)
    from_own_files = _texts([str(plain)], tmp_path / "c")
    one_by_one = _texts([str(lab / "study"), *(str(p) for p in lab.iterdir() if p.name != "study")], tmp_path / "d")
    assert from_wandb_in_directories == from_wandb_alone == from_own_files == one_by_one
    assert not list(plain.rglob("*.wandb"))
    origins = [pd.read_csv(tmp_path / name / "provenance.csv")["source"].unique().tolist() for name in "abc"]
    assert origins == [
        [f"{lab} (W&B files of run directories)"],
        [f"{lab} (offline W&B files)"],
        [f"{plain} (files of run directories without W&B)"],
    ]


def test_a_run_has_one_shape_from_both(lab, tmp_path):
    def shape(run):
        history = [{key: value for key, value in row.items() if not key.startswith("_")} for row in run.history]
        scores = {key: json.loads(text) for key, text in run.summary.items() if key.startswith("scores/")}
        config = {key: value for key, value in run.config.items() if key != "_wandb"}
        return (
            run.id,
            run.name,
            run.group,
            config,
            scores,
            run.status,
            len(history),
            repr(history[:1] and history[-1:]),
        )

    logged = sorted(read([f"wandb-offline:{lab}"]).runs, key=lambda run: run.id)
    own = sorted(read([str(_without_wandb(lab, tmp_path))]).runs, key=lambda run: run.id)
    assert len(own) == 7
    for one, other in zip(logged, own, strict=True):
        a, b = shape(one), shape(other)
        assert a[:-1] == b[:-1]
    assert {run.group for run in own} == {None, "study"}


def test_what_wandb_lost_is_taken_from_the_run_directory_and_said(tmp_path):
    run = write_run(tmp_path / "runs" / "r", "method=grpo", scores=[make_scores(seed=1, rate=0.5)])
    (log,) = (run.path / "wandb").glob("offline-run-*/*.wandb")
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 3])
    found = read([str(tmp_path / "runs")])
    (read_back,) = found.runs
    assert [row["step"] for row in read_back.history] == list(range(1, 21))
    assert any(key.startswith("scores/") for key in read_back.summary)
    assert read_back.damaged_records == 1
    assert any("1 damaged records" in note for note in found.notes)
    assert any("training steps, 1 evaluations not in its W&B files, read from its own" in note for note in found.notes)


def test_directories_that_begin_with_a_dot_are_left_out(lab, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(lab / "grpo-s0", runs / "grpo-s0")
    shutil.copytree(lab / "grpo-s1", runs / ".replaced" / "grpo-s1-20260101")
    shutil.copytree(lab / "study", runs / ".hidden")
    assert [run.name for run in read([str(runs)]).runs] == ["grpo-s0"]
    assert [run.name for run in read([f"wandb-offline:{runs}"]).runs] == ["grpo-s0"]


def test_a_run_that_two_sources_hold_counts_once(lab):
    found = read([str(lab), f"wandb-offline:{lab / 'grpo-s0'}"])
    assert len(found.runs) == 7
    assert [note for note in found.notes if "counted once" in note and "grpo-s0" in note]


def test_what_is_not_a_run_of_ours_is_skipped_with_a_line_each(lab, tmp_path, caplog):
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
    wait_for_the_log(tmp_path / "wandb")
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
        ("wandb:me/project", "not supported yet"),
        ("nowhere", "no runs under nowhere: no such directory"),
        ("wandb-offline:nowhere", "no runs under nowhere: no such directory"),
        (".", r"no runs under \."),
    ],
)
def test_nothing_to_read_is_a_wrong_request(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=message) as raised:
        read([source])
    assert "\n" not in str(raised.value)


def test_the_default_is_everything_below_runs(lab, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="no runs under runs"):
        read([])
    (tmp_path / "runs").symlink_to(lab)
    assert len(read([]).runs) == 7
