"""The table at the end of an evaluation: a policy's numbers with the policy's that it was trained from beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Scores = Mapping[str, Any]

ALIKE = ("task", "split", "task_version", "n", "temperature", "top_p", "max_new_tokens", "limit", "backend")
"""What must agree before two evaluations may stand side by side."""
UNITS = {"entropy": " (nats)", "entropy_topk": " (nats, a lower bound)", "response_length": " (tokens)"}


def base_beside(scores: Scores, base_run: Path) -> Scores | None:
    """The latest evaluation of the base, in its directory under ``runs/``, that was made like ``scores``."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in base_run.glob("eval/*/scores.json")]
    alike = [each for each in found if all(each.get(key) == scores[key] for key in ALIKE)]
    return max(alike, key=lambda each: each["scored_at"], default=None)


def table_of(scores: Scores, base: Scores | None) -> Table:
    """A row a metric with 95 % intervals; with a base also the paired difference of Pass@k."""
    from rich.table import Table

    name = f"{scores['method']} ({scores['policy']})" if scores["method"] else scores["policy"]
    title = f"{scores['task']} ({scores['split']}): {scores['problems']} problems, n = {scores['n']}"
    table = Table(title=title, caption=f"95 % intervals over problems, {scores['interval']}")
    for column in ("", *(["base"] if base else []), name, *(["difference"] if base else [])):
        table.add_column(column)
    differences = _differences(scores, base) if base else {}
    for metric, value in scores.items():
        if not isinstance(value, dict) or "value" not in value:
            continue
        beside = [_cell(base.get(metric))] if base else []
        difference = [_cell(differences.get(metric), sign="+")] if base else []
        table.add_row(metric + UNITS.get(metric, ""), *beside, _cell(value), *difference)
    return table


def _differences(scores: Scores, base: Scores) -> dict[str, dict[str, float]]:
    """Policy minus base, paired over problems, for each Pass@k that both were scored with."""
    import numpy as np

    from progrpo_cli.metrics.bootstrap import PROBABILITY, crossed
    from progrpo_cli.metrics.passk import pass_at_k_per_problem

    n = np.full(scores["problems"], scores["n"])
    right = {name: {row[0]: row[2] for row in each["counts"]} for name, each in (("policy", scores), ("base", base))}
    if right["policy"].keys() != right["base"].keys():
        return {}
    correct = {name: np.array([counts[problem] for problem in right["base"]]) for name, counts in right.items()}
    found = {}
    for k in sorted(set(scores["k"]) & set(base["k"])):
        groups = {name: pass_at_k_per_problem(n, counts, k)[None, :] for name, counts in correct.items()}
        difference = crossed(groups, bounds=PROBABILITY, baseline="base")["policy"].difference
        assert difference is not None
        found[f"pass@{k}"] = {"value": difference.value, "low": difference.low, "high": difference.high}
    return found


def _cell(value: Mapping[str, float] | None, sign: str = "") -> str:
    if value is None:
        return ""
    digits = ".3f" if abs(value["high"]) < 100 else ".1f"
    shown = [format(value[part], sign + digits) for part in ("value", "low", "high")]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"
