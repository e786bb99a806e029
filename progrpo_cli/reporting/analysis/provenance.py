"""The provenance table: where every number came from."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from progrpo_cli.reporting.analysis import budgets
from progrpo_cli.reporting.analysis.caption import describe_sources
from progrpo_cli.reporting.analysis.dataset import Dataset
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns


def commands(dataset: Dataset) -> dict[str, str]:
    """Command -> how many runs of the report it made, in words."""
    counts = Counter(run.identity.command for run in dataset.runs if run.identity.command)
    return {command: f"Made {count} run{'s' if count > 1 else ''}:" for command, count in counts.items()}


def provenance_table(dataset: Dataset, loaded: LoadedRuns) -> Table:
    """One row per run, including runs without an evaluation in the report."""
    labels = {e.run.record.id: row.label for row in dataset.rows for e in row.evaluations}
    records = [
        {
            "run": run.identity.directory,
            "wandb_id": run.record.id,
            "study": run.record.group,
            "method": labels.get(run.record.id, run.method),
            "seed": run.identity.seed,
            "config_hash": run.identity.config_hash,
            "commit": run.identity.commit,
            "dirty": run.identity.dirty,
            "method_source": _shorten(run.identity.method_source),
            "judge_source": _shorten(run.identity.judge_source),
            "version": run.identity.version,
            "status": run.record.status,
            **budgets.run_budget(run),
            "source": loaded.origin[run.record.id],
            "path": run.record.path,
            "command": run.identity.command,
            "evaluations": "; ".join(dataset.used[run.record.id]) or "none",
        }
        for run in dataset.runs
    ]
    sources = (f"Sources: {describe_sources(list(dataset.used), loaded)}.",)
    table = budgets.keep_integers(pd.DataFrame(records), records)
    return Table("provenance", "Provenance", table, (), None, sources)


def _shorten(digests: str | None) -> str | None:
    """The first twelve digits of each digest; there are several if a run was resumed with another source."""
    return None if digests is None else "+".join(digest[:12] for digest in digests.split("+"))
