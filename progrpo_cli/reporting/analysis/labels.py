"""The labels of rows."""

from __future__ import annotations

from collections.abc import Sequence

from progrpo_cli.config.values import format_value
from progrpo_cli.reporting.reading.identity import ReportedRun, differing_settings

BASE = "base"


def row_labels(runs: Sequence[ReportedRun]) -> dict[tuple[str, str], str]:
    """Row key -> label: the method's name, followed by the settings that differ if it has several configurations.

    A model that training started from is called ``base``.
    """
    rows = {run.row: run for run in runs}
    trained = [run for run in rows.values() if not run.is_model]
    started_from = {run.settings.get("model.path") for run in trained}
    methods = {run.method for run in trained}
    by_method = {method: [run for run in trained if run.method == method] for method in methods}
    differing = {method: differing_settings(same_method) for method, same_method in by_method.items()}
    labels = {}
    for row, run in rows.items():
        if run.is_model:
            name = f"{run.method} (model)" if run.method in methods else run.method
            is_base = run.identity.model in started_from
            labels[row] = name if not is_base else BASE if len(started_from) == 1 else f"{BASE} ({name})"
            continue
        details = [f"{key}={format_value(run.settings.get(key))}" for key in differing[run.method]]
        if len(by_method[run.method]) > 1 and not details:  # e.g. a key that an older version did not have
            details = [f"configuration {run.identity.config_hash}"]
        labels[row] = f"{run.method} ({', '.join(details)})" if details else run.method
    return labels
