"""Studies whose runs take no time: everything except training and evaluation is real.

As a program it runs one worker: ``python simulated.py DIRECTORY URL SECONDS_PER_RUN``, with URL ``-`` for the journal.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from progrpo_cli.studies.optuna_trials import OptunaStudy
from progrpo_cli.studies.plan import Plan, Run, load_plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import parse_space
from progrpo_cli.studies.storage import Store, open_store
from progrpo_cli.studies.worker import Execute, Watch, work

SPACE: dict[str, Any] = {
    "overrides": ["method=progrpo", "train.steps=4", "train.eval_every=2"],
    "parameters": {"method.arm.alpha": [0.0, 0.5, 1.0]},
    "seeds": [0, 1],
    "objectives": [{"metric": "pass@32"}],
    "retries": 2,
}


@dataclass
class Study:
    """A directory and the URL of a storage."""

    directory: Path
    url: str | None
    workers: int
    """How many workers may run at the same time."""

    def plan(self, **changes: Any) -> Plan:
        plan = make_plan(parse_space({**SPACE, **changes}, "simulated"), [], self.directory, storage=self.url)
        plan.freeze()
        return plan

    def open(self, plan: Plan) -> tuple[Store, OptunaStudy]:
        store = open_store(self.directory, self.url)
        return store, OptunaStudy(plan, store)

    def work(self, plan: Plan, execute: Execute | None = None) -> None:
        work(plan, open_store(self.directory, self.url), execute or simulate)

    def start(self, seconds: float = 0.0) -> subprocess.Popen:
        """Start a worker in a separate process."""
        command = [sys.executable, __file__, str(self.directory), self.url or "-", str(seconds)]
        # The output goes to a file, since a pipe would break when the worker is killed.
        log = (self.directory / "workers.log").open("a")
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def executions(self) -> list[str]:
        """Return the names of runs in the order in which they started, and ``end NAME`` when they ended."""
        path = self.directory / "executions.log"
        return path.read_text().splitlines() if path.exists() else []


def objective(run: Run) -> float:
    """Return a score that is largest at alpha = 0.5 and differs slightly between seeds."""
    alpha = float(run.trial.parameters.get("method.arm.alpha", 0.0))
    return max(0.0, 0.9 - (alpha - 0.5) ** 2 / 10) + run.seed / 1000


def result(values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "values": {"pass@1": 0.1, "entropy": 0.5, "distinct_correct": 1.0, **values},
        "per_problem": {name: [value * 0.9, min(1.0, value * 1.1)] for name, value in values.items()},
        "updates": 4,
        "seconds": 0.0,
        "wandb_run_id": "none",
        "eval_dir": "none",
    }


def log_line(plan: Plan, line: str) -> None:
    descriptor = os.open(plan.directory / "executions.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def simulate(plan: Plan, run: Run, watch: Watch, seconds: float = 0.0) -> dict[str, Any]:
    log_line(plan, run.name)
    time.sleep(seconds)
    log_line(plan, f"end {run.name}")
    return result({"pass@32": objective(run)})


def main(arguments: Sequence[str]) -> None:
    directory, url, seconds = Path(arguments[0]), arguments[1], float(arguments[2])
    store = open_store(directory, None if url == "-" else url)

    def execute(plan: Plan, run: Run, watch: Watch) -> dict[str, Any]:
        if run.name == os.environ.get("KILLS_ITS_WORKER"):
            log_line(plan, run.name)
            os.kill(os.getpid(), signal.SIGKILL)
        return simulate(plan, run, watch, seconds)

    work(load_plan(directory), store, execute)


if __name__ == "__main__":
    main(sys.argv[1:])
