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
from typing import Any

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, WorkError, nearest
from progrpo_cli.studies.launcher import GRACE_SECONDS, worker_command
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.worker import use_share_of_cores

ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "REQUEUED", "RESIZING", "SIGNALING")
POLL_SECONDS = 1.0


NOT_TAKEN = {"job_name", "setup", "teardown", "srun_args", "additional_parameters"}
"""Options of submitit that a space cannot set: ours, and lists."""


def require_slurm(options: Mapping[str, Any]) -> None:
    """Raise RequestError unless jobs with these options can be submitted from here."""
    try:
        import submitit
    except ImportError:
        raise RequestError("--launcher slurm needs the extra: pip install 'progrpo[slurm]'") from None
    valid = submitit.SlurmExecutor._valid_parameters() - NOT_TAKEN
    for option in options:
        if option not in valid:
            raise RequestError(f"slurm.{option}: no option of submitit's{nearest(option, valid)}")
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

    def start(self) -> None:
        try:
            job = self._executor.submit(serve, self._command)
        except (subprocess.CalledProcessError, OSError, RuntimeError) as error:
            raise WorkError(f"sbatch refuses the worker: {' '.join(str(error).split())[:300]}") from error
        self._jobs.append(job.job_id)
        log.info(f"worker submitted as job {job.job_id}")

    def alive(self) -> int:
        self._jobs = [job for job in self._jobs if _state(job) in ALIVE]
        return len(self._jobs)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)  # a look is a question to the controller of the whole cluster

    def stop(self) -> None:
        # Those that wait are cancelled; those that run are asked to save, and only then cancelled, too.
        for options in (["--state=PENDING"], ["--signal=TERM"], []):
            if self.alive():
                subprocess.run(["scancel", *options, *self._jobs], capture_output=True, check=False)
            deadline = time.monotonic() + (0 if options == ["--state=PENDING"] else GRACE_SECONDS)
            while self.alive() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)


def _state(job: str) -> str:
    """The job's state; empty for one that the controller has forgotten. A controller that is away kills nobody."""
    found = subprocess.run(
        ["squeue", "-h", "-t", "all", "-o", "%T", "-j", job], capture_output=True, text=True, check=False
    )
    if found.returncode and "Invalid job id" not in found.stderr:
        return "RUNNING"
    return found.stdout.strip()


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
