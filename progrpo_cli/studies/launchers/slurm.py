"""Worker processes as SLURM jobs, submitted with submitit. The nodes share the study's directory.

``squeue`` tells which jobs are alive. submitit's own states need the accounting database, which not all clusters have.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, WorkError, nearest
from progrpo_cli.studies.launchers.base import GRACE_SECONDS, threads_per_worker, worker_command
from progrpo_cli.studies.plan import Plan

ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "REQUEUED", "RESIZING", "SIGNALING")
POLL_SECONDS = 1.0
MAX_PAUSE = 15.0
"""The longest pause between two calls of ``squeue`` while the answer stays the same."""
MAX_PAUSE_WITHOUT_ANSWER = 60.0
"""The same while the controller does not answer."""
PATIENCE_SECONDS = 30.0
"""Timeout of ``squeue``."""

OPTIONS = (
    *("partition", "time", "nodes", "ntasks_per_node", "cpus_per_task", "cpus_per_gpu", "num_gpus", "gpus_per_node"),
    *("gpus_per_task", "qos", "mem", "mem_per_gpu", "mem_per_cpu", "signal_delay_s", "comment", "constraint"),
    *("exclude",),
    *("account", "gres", "mail_type", "mail_user", "nodelist", "dependency", "exclusive", "array_parallelism", "wckey"),
    *("stderr_to_stdout", "use_srun"),
)
"""The options of submitit that a space can set: all but the job's name, which progrpo sets, and lists."""


def require_slurm(options: Mapping[str, Any]) -> None:
    """Raise RequestError unless jobs with these options can be submitted from this machine."""
    if find_spec("submitit") is None:
        raise RequestError("--launcher slurm needs the extra: pip install 'progrpo[slurm]'")
    for option in options:
        if option not in OPTIONS:
            raise RequestError(f"slurm.{option}: unknown option{nearest(option, OPTIONS)}")
    for program in ("sbatch", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise RequestError(f"--launcher slurm: no {program} on this machine; try --launcher local")


class SlurmLauncher:
    """Submits a job for each worker, with the options in ``slurm`` of the space."""

    def __init__(self, plan: Plan) -> None:
        import submitit

        self._command = worker_command(plan)
        self._directory = plan.directory
        self._executor = submitit.SlurmExecutor(folder=plan.directory / "logs" / "slurm-%j")
        options: dict[str, Any] = {"time": 24 * 60, "cpus_per_task": 1, **plan.space.slurm}
        self._executor.update_parameters(job_name=f"progrpo-{plan.name}"[:60], **options)
        self._jobs: list[str] = []
        self._queue = Queue()

    def start(self) -> None:
        try:
            job = self._executor.submit(serve, self._command)
        except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
            raise WorkError(f"sbatch refuses the worker: {' '.join(str(error).split())[:300]}") from error
        self._jobs.append(job.job_id)
        self._queue.ask_now()
        log.info(f"worker submitted as job {job.job_id}")

    def alive(self) -> int:
        self._jobs = self._queue.alive(self._jobs)
        return len(self._jobs)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)  # polling would put load on the controller of the whole cluster

    def stop(self) -> None:
        # Pending jobs are cancelled at once. Running jobs are told to save before they are cancelled.
        for options in (["--state=PENDING"], ["--signal=TERM"], []):
            self._queue.ask_now()
            if self.alive():
                subprocess.run(["scancel", *options, *self._jobs], capture_output=True, check=False)
                self._queue.ask_now()
            deadline = time.monotonic() + (0 if options == ["--state=PENDING"] else GRACE_SECONDS)
            while self.alive() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)


class Queue:
    """Asks SLURM's controller which jobs are alive, with one call for all of them.

    All users of the cluster share the controller, so the pause between two calls doubles while the answer stays the
    same or there is none. Without an answer, jobs count as alive.
    """

    def __init__(self) -> None:
        self._pause = POLL_SECONDS
        self._next_look = 0.0
        self._states: dict[str, str] = {}
        self._is_away = False

    def ask_now(self) -> None:
        """Ask at the next call, without a pause, because the caller has changed the state of its jobs."""
        self._pause, self._next_look = POLL_SECONDS, 0.0

    def alive(self, jobs: Sequence[str]) -> list[str]:
        """Return those of ``jobs`` that are running or queued, by the controller's latest answer."""
        if not jobs or time.monotonic() < self._next_look:
            return list(jobs)
        try:
            states = _states(jobs)
        except (OSError, subprocess.SubprocessError) as error:
            if not self._is_away:
                log.warning(f"squeue does not answer, the workers count as alive: {_reason(error)}")
            self._is_away = True
            self._schedule_next_look(MAX_PAUSE_WITHOUT_ANSWER)
            return list(jobs)
        if self._is_away or states != self._states:
            self._pause = POLL_SECONDS / 2  # it is doubled below
        self._is_away, self._states = False, states
        self._schedule_next_look(MAX_PAUSE)
        return [job for job in jobs if states.get(job) in ALIVE]

    def _schedule_next_look(self, longest: float) -> None:
        self._pause = min(2 * self._pause, longest)
        self._next_look = time.monotonic() + self._pause


def _states(jobs: Sequence[str]) -> dict[str, str]:
    """Return job -> state; jobs that the controller has forgotten are missing.

    Raises:
        OSError, subprocess.SubprocessError: ``squeue`` cannot be run, fails or does not answer in time.
    """
    command = ["squeue", "-h", "-t", "all", "-o", "%A %T", "-j", ",".join(jobs)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    if answer.returncode and "Invalid job id" not in answer.stderr:  # the error for a single, forgotten job
        raise subprocess.CalledProcessError(answer.returncode, command, answer.stdout, answer.stderr)
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if " " in line)


def _reason(error: Exception) -> str:
    message = getattr(error, "stderr", None) or str(error)
    return " ".join(str(message).split())[:300]


def serve(command: Sequence[str]) -> int:
    """Run a worker inside the job, with as many threads as the job has cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads_per_worker(1))}
    worker = subprocess.Popen(command, env=environment, preexec_fn=_ignore_usr2)
    # submitit makes SLURM send USR2 a minute and a half before the time limit, so that the worker can save. SLURM sends
    # TERM to the worker directly; this process ignores it and waits for the worker.
    signal.signal(signal.SIGUSR2, lambda number, frame: worker.terminate())
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    return worker.wait()


def _ignore_usr2() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
