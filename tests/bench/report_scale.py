"""Seconds and memory of ``progrpo report`` over many runs (docs/benchmarks.md): ``make bench BENCH=report_scale``."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench._many_runs import run_directories, wandb_files


def measure(source: str, out: Path) -> tuple[float, float, float]:
    """(seconds, processor seconds, GiB at most in one process) of a whole report, figures and page included."""
    command = [
        sys.executable,
        "-m",
        "progrpo_cli",
        "report",
        source,
        "--out",
        str(out),
        "--quiet",
        "--format",
        "md,tex,csv,html",
    ]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, errors.decode()[-2000:]
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024**2


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
