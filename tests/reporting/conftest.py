"""Fixtures of the report's tests. made_up_runs.py, which tests import by name, writes the runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_runs import make_scores, write_run

from progrpo_cli.reporting.rendering import figures


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``runs/`` with the base, GRPO and a study of ProGRPO over two alphas, two seeds each. Do not write to it."""
    runs = tmp_path_factory.mktemp("lab") / "runs"
    write_run(runs / "eval-base", kind="model", scores=[make_scores(seed=1, rate=0.1)])
    for seed in (0, 1):
        write_run(runs / f"grpo-s{seed}", "method=grpo", f"seed={seed}", scores=[make_scores(seed=10 + seed, rate=0.3)])
        for alpha in (0.3, 1.0):
            scores = make_scores(seed=int(100 * alpha) + seed, rate=0.3 + 0.3 * alpha)
            name = f"study/trials/a{alpha}-s{seed}"
            write_run(runs / name, f"method.arm.alpha={alpha}", f"seed={seed}", scores=[scores], study="study")
    return runs


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip drawing, which takes most of a report's time and is tested in test_report_output.py."""
    for function in ("plan_figures", "plan_ablation_figures"):
        monkeypatch.setattr(figures, function, lambda *_: [])
