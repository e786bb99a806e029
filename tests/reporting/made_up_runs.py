"""Run directories as the commands write them, including real W&B files; only the numbers are invented."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from wandb_log import finished_run

from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash, digest
from progrpo_cli.records import files
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tracking.wandb_run import tracker

BASE = "progrpo/lab-base"


def make_scores(
    *,
    seed: int,
    rate: float,
    n: int = 16,
    problems: int = 40,
    split: str = "test",
    task: str = "countdown",
    **changes: Any,
) -> dict[str, Any]:
    """The contents of a ``scores.json`` with problems of different difficulty, solved at about ``rate``."""
    random = np.random.default_rng(seed)
    ids = [f"problem {number}" for number in range(problems)]
    hardness = np.random.default_rng(0).uniform(0.2, 1.8, problems)  # the same for all policies
    correct = random.binomial(n, np.clip(rate * hardness, 0, 1))
    return {
        "task": task,
        "split": split,
        "n": n,
        "k": [1, 8],
        "problems": problems,
        "counts": [[name, n, int(right)] for name, right in zip(ids, correct, strict=True)],
        "per_problem": {
            "problem_id": ids,
            "entropy": (0.2 + random.random(problems) / 10).tolist(),
            "distinct_correct": (correct / 2).tolist(),
        },
        "temperature": 1.0,
        "top_p": 1.0,
        "max_new_tokens": 24,
        "scored_at": "2026-11-24T10:00:00+00:00",
        **changes,
    }


def write_run(
    directory: Path,
    *overrides: str,
    scores: list[dict[str, Any]] | None = None,
    steps: int = 20,
    kind: str = "run",
    study: str | None = None,
    wandb: str = "offline",
    status: str = "finished",
    drawn: int | None = None,
) -> RunDirectory:
    """Write a run or, with kind "model", the evaluations of a policy that no run trained.

    ``drawn``: samples per update, of 10 tokens and a millisecond each; None: not counted, as in early versions.
    """
    config = compose([*overrides, f"tracking.wandb.mode={wandb}"])
    run = RunDirectory(directory)
    identity = config_hash(config) if kind == "run" else digest(BASE)
    run.start(config, kind=kind, model=config.model.path, study=study, config_hash=identity)
    with tracker(run, config, study=study) as tracked:
        for step in range(1, steps + 1) if kind == "run" else ():
            record = {"step": step, "reward": step / 100, "entropy": 1 / step + config.seed / 10, "pass@1": step / 50}
            if drawn is not None:
                samples = step * drawn
                record |= {"samples_drawn": samples, "tokens_drawn": 10 * samples, "train_seconds": samples / 1000}
            for name in config.method.curves:  # one of ARM's curves, with NaN as its first value
                if not name.startswith("arm/"):
                    record[name] = step / 10
                elif name == "arm/shift_std":
                    record[name] = math.nan if step == 1 else step / 20
            with run.metrics_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            tracked.log(record)
        for number, document in enumerate(scores or []):
            name = f"{document['task']}-{document['split']}{number}"
            files.write_json(run.path / "eval" / name / "scores.json", document)
            tracked.log_scores(name, document, None)
    if wandb != "disabled":
        finished_run(run.path / "wandb")
    run.update(status=status)
    return run
