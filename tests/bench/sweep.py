"""Runs an hour of a 12-run lab study: ours with two workers and with one, Hydra's joblib launcher with two, in turn.

Needs ``pip install hydra-joblib-launcher``. Every run has one thread; all three do the same training and evaluation, in
long-lived processes. Overhead is what a worker spends outside training and evaluation between its first and last run.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from progrpo_cli.config import paths

REPEATS = 2
ALPHAS, SEEDS = (0.0, 0.5, 1.0, 2.0), (0, 1, 2)
SHORT = [
    "train.steps=10",
    "train.prompts_per_rollout=4",
    "train.group_size=8",
    "task.validation_problems=8",
    "tracking.wandb.mode=disabled",
]
SPACE = f"""
overrides: [method=progrpo, {", ".join(SHORT)}]
parameters: {{method.arm.alpha: {list(ALPHAS)}}}
seeds: {list(SEEDS)}
objectives: [{{metric: pass@32}}]
"""
RUNS = len(ALPHAS) * len(SEEDS)


def timed(command: list[str], directory: Path) -> float:
    began = time.perf_counter()
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(paths.CONFIGURATIONS), *sys.path]),
    }
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def ours(workers: int, directory: Path) -> tuple[float, float]:
    """Seconds, and which share of the workers' time from first to last run is neither training nor evaluation."""
    directory.mkdir()
    (directory / "twelve.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "progrpo_cli", "sweep", "--space", "twelve.yaml", "--workers", str(workers)]
    seconds = timed(command, directory)
    of_worker: dict[str, list[tuple[float, float]]] = {}
    for path in directory.glob("runs/twelve/ledger/*.json"):
        entry = json.loads(path.read_text())
        began, ended = (datetime.fromisoformat(entry["result"][key]).timestamp() for key in ("began", "ended"))
        of_worker.setdefault(entry["worker"], []).append((began, ended))
    busy = sum(ended - began for runs in of_worker.values() for began, ended in runs)
    there = sum(max(e for _, e in runs) - min(b for b, _ in runs) for runs in of_worker.values())
    return seconds, 1 - busy / there


def hydra(directory: Path) -> float:
    directory.mkdir()
    choices = ["method=progrpo", f"method.arm.alpha={','.join(map(str, ALPHAS))}", f"seed={','.join(map(str, SEEDS))}"]
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={directory}/sweep"]
    app = Path(__file__).with_name("_hydra_app.py")
    seconds = timed([sys.executable, str(app), "--multirun", *launcher, *choices, *SHORT], directory)
    assert len(list(directory.glob("sweep/*/run/eval/*/scores.json"))) == RUNS
    return seconds


def main() -> None:
    print("| repeat | ours, 2 workers | ours, 1 worker | Hydra joblib, 2 | ours/Hydra | efficiency of 2 | overhead |")
    print("|---|---|---|---|---|---|---|")
    ratios, efficiencies, overheads = [], [], []
    with tempfile.TemporaryDirectory() as place:
        for repeat in range(REPEATS):
            root = Path(place)
            two, overhead = ours(2, root / f"two-{repeat}")
            theirs = hydra(root / f"hydra-{repeat}")
            one, _ = ours(1, root / f"one-{repeat}")
            ratios.append(theirs / two)
            efficiencies.append(one / two / 2)
            overheads.append(overhead)
            hours = (f"{RUNS / seconds * 3600:.0f} runs/h" for seconds in (two, one, theirs))
            print(
                f"| {repeat} | {' | '.join(hours)} | {ratios[-1]:.2f} | {efficiencies[-1]:.2f} | {overhead:.1%} |",
                flush=True,
            )
    print(
        f"\nmedians: {statistics.median(ratios):.2f} times Hydra's runs an hour; two workers "
        f"{statistics.median(efficiencies):.2f} efficient; overhead {statistics.median(overheads):.1%}. "
        f"{RUNS} runs of 10 updates."
    )
