"""What issue-sized reports cost, on two cores with nothing else on them; docs/benchmarks.md has the figures."""

import pytest
from bench._many_runs import run_directories, wandb_files
from bench.report_scale import measure

pytestmark = pytest.mark.long


def test_a_thousand_runs_of_a_thousand_steps(tmp_path):
    run_directories(tmp_path / "runs", 1000, 1000)
    seconds, memory = measure(str(tmp_path / "runs"), tmp_path / "out")
    assert len((tmp_path / "out" / "main.csv").read_text().splitlines()) == 201
    assert (tmp_path / "out" / "figures" / "arm.csv").stat().st_size > 10_000
    assert seconds < 15
    assert memory < 1


def test_a_hundred_wandb_files_of_a_thousand_steps_and_thirty_metrics(tmp_path):
    wandb_files(tmp_path, 100, 1000, 30)
    seconds, _ = measure(f"wandb-offline:{tmp_path / 'wandb-copies'}", tmp_path / "out")
    assert len((tmp_path / "out" / "provenance.csv").read_text().splitlines()) == 101
    assert seconds < 25
