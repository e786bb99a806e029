"""A real SLURM cluster of one node without systemd (Debian: slurmctld slurmd slurm-client munge)."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

CONFIGURATION = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=10
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "sinfo")


class SlurmCluster:
    """A running cluster; clients need its ``environment``."""

    def __init__(self) -> None:
        missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
        if missing or os.geteuid() != 0:
            reason = f"a one-node SLURM needs root and {', '.join(missing) or 'nothing else'}"
            (pytest.fail if os.environ.get("PROGRPO_TEST_LONG") else pytest.skip)(reason)
        self.directory = Path(tempfile.mkdtemp(prefix="progrpo-slurm-"))
        (self.directory / "state").mkdir()
        (self.directory / "spool").mkdir()
        configuration = self.directory / "slurm.conf"
        configuration.write_text(
            CONFIGURATION.format(host=socket.gethostname(), directory=self.directory, ports=_free_ports(2))
        )
        self.environment = {"SLURM_CONF": str(configuration)}
        self._daemons: list[subprocess.Popen] = []
        if subprocess.run(["munge", "-n"], capture_output=True).returncode:  # munged is not running yet
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            self._start("runuser", "-u", "munge", "--", "/usr/sbin/munged", "--foreground", "--force")
            self._wait(lambda: subprocess.run(["munge", "-n"], capture_output=True).returncode == 0)
        self._start("/usr/sbin/slurmctld", "-D", "-i")
        self._start("/usr/sbin/slurmd", "-D", "-N", socket.gethostname())
        self._wait(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"))

    def run(self, *command: str) -> str:
        done = subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True)
        return done.stdout + done.stderr

    def close(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(timeout=60)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _start(self, *command: str) -> None:
        log = (self.directory / "daemons.log").open("a")
        environment = {**os.environ, **self.environment}
        self._daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd="/"))

    def _wait(self, condition) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, (self.directory / "daemons.log").read_text()[-3000:]
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports
