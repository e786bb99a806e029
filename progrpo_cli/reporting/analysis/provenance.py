"""Where every number came from."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from progrpo_cli.reporting.analysis import budgets
from progrpo_cli.reporting.analysis.caption import read_from
from progrpo_cli.reporting.analysis.dataset import Dataset
from progrpo_cli.reporting.analysis.table import Table
from progrpo_cli.reporting.reading.loaded_runs import LoadedRuns


def commands(frame: Dataset) -> dict[str, str]:
    """Each command that made runs of the report, and how many."""
    counts = Counter(run.identity.command for run in frame.runs if run.identity.command)
    return {command: f"Made {count} run{'s' if count > 1 else ''}:" for command, count in counts.items()}


def provenance_table(frame: Dataset, loaded: LoadedRuns) -> Table:
    """A row a run, those without an evaluation in the report too."""
    row_labels = {e.run.record.id: row.label for row in frame.rows for e in row.evaluations}
    records = [
        {
            "run": run.identity.directory,
            "wandb_id": run.record.id,
            "study": run.record.group,
            "method": row_labels.get(run.record.id, run.method),
            "seed": run.identity.seed,
            "config_hash": run.identity.config_hash,
            "commit": run.identity.commit,
            "dirty": run.identity.dirty,
            "method_source": _shortened(run.identity.method_source),
            "judge_source": _shortened(run.identity.judge_source),
            "version": run.identity.version,
            "status": run.record.status,
            **budgets.of_run(run),
            "source": loaded.origin[run.record.id],
            "path": run.record.path,
            "command": run.identity.command,
            "evaluations": "; ".join(frame.used[run.record.id]) or "none",
        }
        for run in frame.runs
    ]
    sources = (f"Sources: {read_from(list(frame.used), loaded)}.",)
    table = budgets.keep_integers(pd.DataFrame(records), records)
    return Table("provenance", "Provenance", table, (), None, sources)


def _shortened(digests: str | None) -> str | None:
    """Twelve digits of each; several where a run went on with another source."""
    return None if digests is None else "+".join(digest[:12] for digest in digests.split("+"))
