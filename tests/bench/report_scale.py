"""Seconds and memory of ``progrpo report`` over many runs (docs/benchmarks.md): ``make bench BENCH=report_scale``."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench._many_runs import run_directories, wandb_files

REPORT = """
import atexit, pathlib, resource, sys
from progrpo_cli import main

def peak():  # in KiB: our own, and the largest of our children's
    (own,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    pathlib.Path(sys.argv[0]).write_text(str(max(int(own), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)))

sys.argv[:2] = sys.argv[1:2]
atexit.register(peak)
main.run()
"""


def measure(source: str, out: Path) -> tuple[float, float, float]:
    """(seconds, processor seconds, peak GiB of one process) of a whole report, figures and page included.

    Memory is not taken from `wait4`, because a child starts as a copy of its parent, with the parent's peak.
    """
    peak = out.with_name(f"{out.name}-peak")
    options = ["--out", str(out), "--quiet", "--format", "md,tex,csv,html"]
    command = [sys.executable, "-c", REPORT, str(peak), "report", source, *options]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, errors.decode()[-2000:]
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, int(peak.read_text()) / 1024**2


def main() -> None:
    print("| source | runs | steps | metrics | seconds | processor seconds | GiB |\n|---|---|---|---|---|---|---|")
    for runs in (100, 300, 1000):
        with tempfile.TemporaryDirectory() as directory:
            run_directories(Path(directory) / "runs", runs, 1000)
            seconds, busy, memory = measure(f"{directory}/runs", Path(directory) / "out")
            print(f"| run directories | {runs} | 1000 | 15 | {seconds:.1f} | {busy:.1f} | {memory:.2f} |", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        wandb_files(Path(directory), 100, 1000, 30)
        seconds, busy, memory = measure(f"wandb-offline:{directory}/wandb-copies", Path(directory) / "out")
        print(f"| .wandb files | 100 | 1000 | 30 | {seconds:.1f} | {busy:.1f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
