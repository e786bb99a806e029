"""Worker processes on this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

from progrpo_cli.studies.launchers.base import GRACE_SECONDS, log_path, threads_per_worker, worker_command
from progrpo_cli.studies.plan import Plan

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
POLL_SECONDS = 0.05


class LocalLauncher:
    """Starts worker processes on this machine. They stop when this process ends, even if it is killed."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        threads = threads_per_worker(plan.space.workers)  # with more threads than cores, runs are 5 to 10 times slower
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def start(self) -> None:
        number = next(n for n in range(len(self._workers) + 1) if not self._is_alive(n))
        with log_path(self._plan, number).open("ab") as output:
            self._workers[number] = subprocess.Popen(
                worker_command(self._plan),
                env=self._environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C reaches only this process, which then stops the workers
                preexec_fn=_end_with_parent,
            )

    def alive(self) -> int:
        return sum(self._is_alive(number) for number in self._workers)

    def wait(self, seconds: float) -> None:
        deadline, alive = time.monotonic() + seconds, self.alive()
        while self.alive() == alive and (remaining := deadline - time.monotonic()) > 0:
            time.sleep(min(remaining, POLL_SECONDS))

    def stop(self) -> None:
        for worker in self._workers.values():
            if worker.poll() is None:
                worker.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._workers.values():
            try:
                worker.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def _is_alive(self, number: int) -> bool:
        return number in self._workers and self._workers[number].poll() is None


def _end_with_parent() -> None:
    """Make this child process receive SIGTERM when its parent dies. On systems other than Linux it just continues."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
