"""The analysis on its own: from records in memory to numbers, without files."""

import json

import numpy as np
import pytest
from made_up_runs import make_scores

from progrpo_cli.config.compose import compose
from progrpo_cli.reporting.analysis import dataset
from progrpo_cli.reporting.analysis.main_table import main_table
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns
from progrpo_cli.reporting.reading.record import Curves, RunRecord


def record(method: str, seed: int, rate: float) -> tuple[RunRecord, float]:
    """A run's record, and the Pass@1 of its scores computed by hand."""
    config = compose([f"method={method}", f"seed={seed}"])
    scores = make_scores(seed=seed + int(100 * rate), rate=rate)
    identity = {
        "kind": "run",
        "config_hash": f"hash of {method}",
        "seed": seed,
        "version": "1",
        "commit": None,
        "directory": f"{method}-{seed}",
        "model": "progrpo/lab-base",
    }
    report_dataset = RunRecord(
        id=f"{method}{seed}",
        name=f"{method}-{seed}",
        group=None,
        config={**config.model_dump(mode="json"), "progrpo": identity},
        scores={"countdown-0": json.dumps(scores)},
        curves=Curves(np.array([], dtype=np.int64), {}),
        status="finished",
        started=0.0,
        damaged_records=0,
        path="memory",
    )
    counts = scores["counts"]
    return report_dataset, sum(right / n for _, n, right in counts) / len(counts)


def test_rows_are_seed_means_with_paired_differences_to_the_baseline() -> None:
    loaded, by_hand = LoadedRuns(), {}
    for method, rate in (("grpo", 0.3), ("progrpo", 0.5)):
        for seed in (0, 1, 2):
            report_dataset, by_hand[method, seed] = record(method, seed, rate)
            loaded.add(report_dataset, "memory")
    report_dataset = dataset.build_dataset(loaded)
    assert [(row.name, len(row.evaluations)) for row in report_dataset.rows] == [("grpo", 3), ("progrpo", 3)]
    table = main_table(report_dataset, loaded, ks=[1], baseline="grpo").frame.set_index("method")
    means = {method: sum(by_hand[method, seed] for seed in (0, 1, 2)) / 3 for method in ("grpo", "progrpo")}
    assert table.loc["grpo", "pass@1"] == pytest.approx(means["grpo"])
    assert table.loc["progrpo", "pass@1"] == pytest.approx(means["progrpo"])
    assert table.loc["progrpo", "pass@1_diff"] == pytest.approx(means["progrpo"] - means["grpo"])
    assert table.loc["progrpo", "pass@1_low"] < means["progrpo"] < table.loc["progrpo", "pass@1_high"]
