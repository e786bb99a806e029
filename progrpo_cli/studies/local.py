"""Worker processes on this machine, and what a person sees of them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

from progrpo_cli.console import Progress, log, progress
from progrpo_cli.errors import Interrupted
from progrpo_cli.studies.overview import status, write_trials_csv
from progrpo_cli.studies.plan import Plan

POLL_SECONDS = 2.0
GRACE_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def run_workers(plan: Plan) -> None:
    """Start the workers, show how far they are, and return when all have ended.

    Raises:
        Interrupted: SIGINT or SIGTERM; the workers were told to save and have ended.
    """
    logs = plan.directory / "logs"
    logs.mkdir(exist_ok=True)
    open_runs = sum(status(run) != "complete" for run in plan.runs())
    threads = max(1, (os.cpu_count() or 1) // plan.workers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}  # oversubscribed cores are 5 to 10 times slower
    command = [sys.executable, "-m", "progrpo_cli", "sweep", "--worker", "--study", str(plan.directory)]
    workers = []
    for number in range(min(plan.workers, open_runs)):
        with (logs / f"worker-{number}.log").open("ab") as output:
            workers.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdout=output,
                    stderr=output,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C reaches us alone; the workers hear of it once, from us
                    preexec_fn=_end_with_parent,
                )
            )
    log.info(f"{len(workers)} workers, {threads} thread(s) each; their logs are in {logs}")
    stop = _StopRequest()
    try:
        with stop, progress(_updates(plan), f"study {plan.name}") as shown:
            # Somebody else's workers may hold runs of the same study: it is not over before theirs are.
            while any(worker.poll() is None for worker in workers) or any(
                run.directory.in_use() for run in plan.runs()
            ):
                _show(plan, shown)
                if stop.requested:
                    raise Interrupted(f"interrupted; the same command continues {plan.directory}")
                time.sleep(POLL_SECONDS)
            _show(plan, shown)
    finally:
        _end(workers)
        write_trials_csv(plan)


def _end_with_parent() -> None:
    """In the child: be told to stop when the parent dies, however it dies (Linux; elsewhere workers just go on)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _StopRequest:
    """Remembers SIGINT and SIGTERM while the workers run."""

    requested = False

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    """Ask the workers that are still there to save and stop, and wait for them."""
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        try:
            worker.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _updates(plan: Plan) -> int:
    return sum(run.config.train.steps for run in plan.runs())


def _show(plan: Plan, shown: Progress) -> None:
    found = write_trials_csv(plan)
    states = [row["status"] for row in found]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    shown.update(sum(row["updates"] for row in found), f"updates; runs: {counted}")
