"""Worker processes as SLURM jobs, submitted with submitit. The nodes share the study's directory.

Whether a job is alive is asked of ``squeue``: submitit's states come from the accounting database, which many clusters
(and every one without slurmdbd) do not have.
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
from progrpo_cli.studies.launchers.base import GRACE_SECONDS, use_share_of_cores, worker_command
from progrpo_cli.studies.plan import Plan

ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "REQUEUED", "RESIZING", "SIGNALING")
POLL_SECONDS = 1.0
LONGEST_PAUSE = 15.0
"""Between two questions to the controller while its answer stays the same."""
LONGEST_PAUSE_AWAY = 60.0
"""While it does not answer."""
PATIENCE_SECONDS = 30.0
"""Without an answer for so long ``squeue`` counts as failed."""

OPTIONS = (
    *("partition", "time", "nodes", "ntasks_per_node", "cpus_per_task", "cpus_per_gpu", "num_gpus", "gpus_per_node"),
    *(
        "gpus_per_task",
        "qos",
        "mem",
        "mem_per_gpu",
        "mem_per_cpu",
        "signal_delay_s",
        "comment",
        "constraint",
        "exclude",
    ),
    *("account", "gres", "mail_type", "mail_user", "nodelist", "dependency", "exclusive", "array_parallelism", "wckey"),
    *("stderr_to_stdout", "use_srun"),
)
"""Options of submitit that a space can set: all but the job's name, which is ours, and lists."""


def require_slurm(options: Mapping[str, Any]) -> None:
    """Raise RequestError unless jobs with these options can be submitted from here."""
    if find_spec("submitit") is None:
        raise RequestError("--launcher slurm needs the extra: pip install 'progrpo[slurm]'")
    for option in options:
        if option not in OPTIONS:
            raise RequestError(f"slurm.{option}: submitit has no such option for a space{nearest(option, OPTIONS)}")
    for program in ("sbatch", "squeue", "scancel"):
        if shutil.which(program) is None:
            raise RequestError(f"--launcher slurm: no {program} on this machine; try --launcher local")


class SlurmLauncher:
    """A job a worker. ``slurm`` of the space holds what the cluster wants to know."""

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
        self._queue.look_again()
        log.info(f"worker submitted as job {job.job_id}")

    def alive(self) -> int:
        self._jobs = self._queue.alive(self._jobs)
        return len(self._jobs)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)  # a look is a question to the controller of the whole cluster

    def stop(self) -> None:
        # Those that wait are cancelled; those that run are asked to save, and only then cancelled, too.
        for options in (["--state=PENDING"], ["--signal=TERM"], []):
            self._queue.look_again()
            if self.alive():
                subprocess.run(["scancel", *options, *self._jobs], capture_output=True, check=False)
                self._queue.look_again()
            deadline = time.monotonic() + (0 if options == ["--state=PENDING"] else GRACE_SECONDS)
            while self.alive() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)


class Queue:
    """Which of our jobs the controller still has: one question for all of them, and fewer while nothing happens.

    The pause between two questions doubles while the answer stays the same, and while there is none: all users of the
    cluster ask the same controller. One that does not answer has ended no job.
    """

    def __init__(self) -> None:
        self._pause = POLL_SECONDS
        self._next_look = 0.0
        self._states: dict[str, str] = {}
        self._is_away = False

    def look_again(self) -> None:
        """Something has been done that changes the answer: the next question is asked at once."""
        self._pause, self._next_look = POLL_SECONDS, 0.0

    def alive(self, jobs: Sequence[str]) -> list[str]:
        """Those of ``jobs`` that run or wait, by the controller's latest answer about them."""
        if not jobs or time.monotonic() < self._next_look:
            return list(jobs)
        try:
            states = _states(jobs)
        except (OSError, subprocess.SubprocessError) as error:
            if not self._is_away:
                log.warning(f"squeue does not answer, the workers count as alive: {_reason(error)}")
            self._is_away = True
            self._pause_then_look(LONGEST_PAUSE_AWAY)
            return list(jobs)
        if self._is_away or states != self._states:
            self._pause = POLL_SECONDS / 2  # doubled now
        self._is_away, self._states = False, states
        self._pause_then_look(LONGEST_PAUSE)
        return [job for job in jobs if states.get(job) in ALIVE]

    def _pause_then_look(self, longest: float) -> None:
        self._pause = min(2 * self._pause, longest)
        self._next_look = time.monotonic() + self._pause


def _states(jobs: Sequence[str]) -> dict[str, str]:
    """Job -> its state, without those that the controller has forgotten.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be asked, or does not answer.
    """
    command = ["squeue", "-h", "-t", "all", "-o", "%A %T", "-j", ",".join(jobs)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    if answer.returncode and "Invalid job id" not in answer.stderr:  # it says so where all of one job is forgotten
        raise subprocess.CalledProcessError(answer.returncode, command, answer.stdout, answer.stderr)
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if " " in line)


def _reason(error: Exception) -> str:
    said = getattr(error, "stderr", None) or str(error)
    return " ".join(str(said).split())[:300]


def serve(command: Sequence[str]) -> int:
    """In the job: be the worker, with as many threads as the job has cores."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(use_share_of_cores(1))}
    worker = subprocess.Popen(command, env=environment, preexec_fn=_ignore_usr2)
    # A minute and a half before the time limit SLURM sends USR2 (submitit asks for it): time enough to save. TERM
    # reaches the worker from SLURM itself; we wait for it.
    signal.signal(signal.SIGUSR2, lambda number, frame: worker.terminate())
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    return worker.wait()


def _ignore_usr2() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
