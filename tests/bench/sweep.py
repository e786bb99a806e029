"""Runs per hour of two 12-run lab studies with our sweep and with Hydra, two workers each; ours also with one.

One study varies alpha, and its runs take equally long. The other varies the group size, like
``sweeps/group_size.yaml``, and its runs do not. Hydra uses its joblib launcher in two ways: as a plain multirun, and
under hydra-optuna-sweeper, the comparable one (a study in Optuna), which waits for the slower run of each batch.

It needs ``pip install hydra-joblib-launcher``. The sweeper's pre-release needs its own Hydra, in the folder named by
HYDRA_PRE_RELEASE: ``pip install --pre --target "$HYDRA_PRE_RELEASE" --no-deps hydra-core omegaconf
hydra-optuna-sweeper hydra-joblib-launcher``.

Each run has one thread; all do the same training and evaluation in long-lived processes. Overhead is a worker's time
outside training and evaluation, between the start of its first run and the end of its last.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from progrpo_cli.config import paths

REPEATS = 2
SEEDS = (0, 1, 2)
SHORT = ["train.steps=20", "train.prompts_per_rollout=4", "task.validation_problems=8", "tracking.wandb.mode=disabled"]
PRE_RELEASE = os.environ.get("HYDRA_PRE_RELEASE")


@dataclass(frozen=True)
class Study:
    """A study that varies one key over the seeds."""

    name: str
    key: str
    values: tuple[float, ...]
    fixed: list[str]

    @property
    def runs(self) -> int:
        return len(self.values) * len(SEEDS)

    def space(self) -> str:
        """The content of a space's file."""
        overrides = ", ".join(["method=progrpo", *SHORT, *self.fixed])
        return (
            f"overrides: [{overrides}]\nparameters: {{{self.key}: {list(self.values)}}}\nseeds: {list(SEEDS)}\n"
            "objectives: [{metric: pass@32}]\n"
        )

    def choices(self) -> list[str]:
        """The same for Hydra."""
        values, seeds = (",".join(map(str, items)) for items in (self.values, SEEDS))
        return ["method=progrpo", f"{self.key}={values}", f"seed={seeds}", *SHORT, *self.fixed]


STUDIES = (
    Study("alpha", "method.arm.alpha", (0.0, 0.5, 1.0, 2.0), ["train.group_size=8"]),
    Study("group size", "train.group_size", (4, 8, 16, 32), []),
)


def run_timed(command: list[str], directory: Path, *packages: str) -> float:
    began = time.perf_counter()
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([*packages, str(paths.CONFIGURATIONS), *sys.path]),
    }
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def ours(study: Study, workers: int, directory: Path) -> tuple[float, float]:
    """Seconds, and the share of the workers' time from first to last run that is neither training nor evaluation."""
    directory.mkdir()
    (directory / "twelve.yaml").write_text(study.space())
    command = [sys.executable, "-m", "progrpo_cli", "sweep", "--space", "twelve.yaml", "--workers", str(workers)]
    seconds = run_timed(command, directory)
    by_worker: dict[str, list[tuple[float, float]]] = {}
    for path in directory.glob("runs/twelve/ledger/*.json"):
        entry = json.loads(path.read_text())
        began, ended = (datetime.fromisoformat(entry["result"][key]).timestamp() for key in ("began", "ended"))
        by_worker.setdefault(entry["worker"], []).append((began, ended))
    busy = sum(ended - began for runs in by_worker.values() for began, ended in runs)
    present = sum(max(e for _, e in runs) - min(b for b, _ in runs) for runs in by_worker.values())
    return seconds, 1 - busy / present


def hydra(study: Study, directory: Path, *, optuna: bool) -> float:
    directory.mkdir()
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={directory}/sweep"]
    sweeper = ["hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "hydra.sweeper.sampler.seed=0"]
    sweeper += ["hydra.sweeper.n_jobs=2", f"hydra.sweeper.n_trials={study.runs}", "hydra.sweeper.direction=maximize"]
    app = Path(__file__).with_name("_hydra_app.py")
    command = [sys.executable, str(app), "--multirun", *launcher, *(sweeper if optuna else []), *study.choices()]
    seconds = run_timed(command, directory, *([str(PRE_RELEASE)] if optuna else []))
    assert len(list(directory.glob("sweep/*/run/eval/*/scores.json"))) == study.runs
    return seconds


def compare(study: Study, root: Path) -> None:
    """Print a row per repeat and the medians."""
    print(
        f"**{study.name}**\n\n| repeat | ours, 2 workers | ours, 1 worker | Hydra multirun | hydra-optuna-sweeper "
        "| ours/multirun | ours/sweeper | efficiency of 2 | overhead |\n|---|---|---|---|---|---|---|---|---|"
    )
    ratios: dict[str, list[float]] = {"multirun": [], "sweeper": []}
    efficiencies, overheads = [], []
    for repeat in range(REPEATS):
        directory = root / f"{study.key}-{repeat}"
        directory.mkdir()
        two, overhead = ours(study, 2, directory / "two")
        theirs = {"multirun": hydra(study, directory / "multirun", optuna=False)}
        if PRE_RELEASE:
            theirs["sweeper"] = hydra(study, directory / "sweeper", optuna=True)
        one, _ = ours(study, 1, directory / "one")
        for name, seconds in theirs.items():
            ratios[name].append(seconds / two)
        efficiencies.append(one / two / 2)
        overheads.append(overhead)
        hours = (_per_hour(study, seconds) for seconds in (two, one, theirs["multirun"], theirs.get("sweeper")))
        last = (f"{values[-1]:.2f}" if values else "not installed" for values in ratios.values())
        print(
            f"| {repeat} | {' | '.join(hours)} | {' | '.join(last)} | {efficiencies[-1]:.2f} | {overhead:.1%} |",
            flush=True,
        )
    medians = (f"{statistics.median(values):.2f} times {name}" for name, values in ratios.items() if values)
    print(
        f"\nmedians: {', '.join(medians)}; two workers {statistics.median(efficiencies):.2f} efficient; overhead "
        f"{statistics.median(overheads):.1%}. {study.runs} runs of 20 updates, start-up of all processes included.\n",
        flush=True,
    )


def _per_hour(study: Study, seconds: float | None) -> str:
    return "-" if seconds is None else f"{study.runs / seconds * 3600:.0f} runs/h"


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        for study in STUDIES:
            compare(study, Path(root))
