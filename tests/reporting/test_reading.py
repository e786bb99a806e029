"""The reading of runs on its own: from files to records and evaluations."""

import math
from pathlib import Path

import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.reporting.reading.evaluations import read_evaluations
from progrpo_cli.reporting.reading.identity import identify
from progrpo_cli.reporting.reading.sources import read


def test_a_run_directory_gives_a_record_an_identity_and_evaluations(tmp_path: Path) -> None:
    scores = make_scores(seed=3, rate=0.4)
    write_run(tmp_path / "runs/a", "method=progrpo", "seed=5", scores=[scores], steps=4, drawn=10, wandb="disabled")
    loaded = read([str(tmp_path / "runs")])
    (record,) = loaded.runs
    assert (record.name, record.status, record.group) == ("a", "finished", None)
    assert loaded.origin == {record.id: f"{tmp_path / 'runs'} (run directories)"}
    assert record.curves.steps.tolist() == [1, 2, 3, 4]
    assert record.curves.values["reward"].tolist() == [0.01, 0.02, 0.03, 0.04]
    shift = record.curves.values["arm/shift_std"].tolist()
    assert math.isnan(shift[0])
    assert shift[1:] == pytest.approx([0.1, 0.15, 0.2])
    assert record.curves.not_finite == {"arm/shift_std": 1}
    assert record.budget is not None
    assert (record.budget.updates, record.budget.samples_drawn, record.budget.tokens_drawn) == (4, 40, 400)
    run = identify(record, loaded)
    assert run is not None
    assert (run.method, run.identity.seed, run.is_model) == ("progrpo", 5, False)
    (evaluation,) = read_evaluations(run, loaded)
    assert (evaluation.task, evaluation.split, evaluation.n) == ("countdown", "test", 16)
    assert evaluation.correct.sum() == sum(right for _, _, right in scores["counts"])
    assert loaded.notes == []


def test_a_damaged_directory_is_skipped_with_a_note(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/good", "method=grpo", steps=1, wandb="disabled")
    bad = write_run(tmp_path / "runs/bad", "method=grpo", steps=1, wandb="disabled")
    bad.config_path.write_text("{")
    loaded = read([str(tmp_path / "runs")])
    assert [record.name for record in loaded.runs] == ["good"]
    assert len(loaded.notes) == 1
    assert "runs/bad skipped" in loaded.notes[0]
