"""What large reports cost; docs/benchmarks.md has the figures.

Bounds are on the processor's time, which other work on the machine changes less than the clock's, but changes: 15 s on
one core, 25 s on two.
"""

import pytest
from bench._many_runs import run_directories, wandb_files
from bench.report_scale import measure

pytestmark = [pytest.mark.long, pytest.mark.alone]


def test_a_thousand_runs_of_a_thousand_steps(tmp_path):
    run_directories(tmp_path / "runs", 1000, 1000)
    _, busy, memory = measure(str(tmp_path / "runs"), tmp_path / "out")
    assert len((tmp_path / "out" / "main.csv").read_text().splitlines()) == 201
    assert (tmp_path / "out" / "figures" / "arm.csv").stat().st_size > 10_000
    assert busy < 15
    assert memory < 1


def test_a_hundred_wandb_files_of_a_thousand_steps_and_thirty_metrics(tmp_path):
    wandb_files(tmp_path, 100, 1000, 30)
    _, busy, _ = measure(f"wandb-offline:{tmp_path / 'wandb-copies'}", tmp_path / "out")
    assert len((tmp_path / "out" / "provenance.csv").read_text().splitlines()) == 101
    assert busy < 2 * 25
