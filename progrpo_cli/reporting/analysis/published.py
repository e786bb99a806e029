"""Published results of others for comparison, marked as such and never part of main.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from progrpo_cli.reporting.analysis.table import Table

SOURCE = "arXiv 2602.05281"
_CAPTION = (
    f"Published in {SOURCE}, not measured here: with other models, tasks and budgets than above, without intervals.",
    "The values come from secondary notes on the paper and may be rounded; its abstract states +5.7 (Pass@1) and +13.9 "
    "(Pass@32) points over GRPO on Qwen2.5-7B. avg@16: the mean over 16 samples.",
)


def published_table() -> Table:
    """One row per method, model and task; values are fractions, except for the CodeForces rating."""
    cells = pd.read_csv(Path(__file__).with_name("published.csv"))
    keys = ["model", "task", "method"]
    wide = cells.pivot_table(index=keys, columns="metric", values="value", sort=False).reset_index()
    wide.columns.name = None
    wide["method"] = wide["method"] + " (published)"
    metrics = [name for name in wide.columns if name not in keys]
    frame = wide[["method", "model", "task", *metrics]].assign(source=SOURCE)
    return Table("published", "Published figures", frame, (), None, _CAPTION)
