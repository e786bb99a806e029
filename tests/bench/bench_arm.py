"""What ARM costs: `progrpo` over `grpo`, in turn in one run, on the lab. `make bench` runs it; it prints Markdown.

Each repeat trains both methods for some updates with the real command line and takes the median of `step_seconds`. The
ratio is taken within a repeat, so that a machine that gets slower or faster meanwhile does not enter it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

REPEATS = 3
UPDATES = 20
WARM_UP = 4  # the first rollouts pay for allocations and caches


def median_step_seconds(method: str, repeat: int, directory: Path) -> float:
    run = directory / f"{method}-{repeat}"
    subprocess.run(
        [sys.executable, "-m", "progrpo_cli", "train", "-q", f"method={method}", f"seed={repeat}", "--run-dir", run]
        + [f"train.steps={UPDATES}", "train.save_every=1000", "tracking.wandb.mode=disabled"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    steps = [json.loads(line)["step_seconds"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    # Sampling and reuse alternate: a pair of updates is one rollout, and pairs are what is compared.
    pairs = [(first + second) / 2 for first, second in zip(steps[::2], steps[1::2], strict=True)]
    return statistics.median(pairs[WARM_UP // 2 :])


def main() -> None:
    print("| repeat | grpo s/update | progrpo s/update | ratio |\n|---|---|---|---|")
    ratios = []
    with tempfile.TemporaryDirectory() as directory:
        for repeat in range(REPEATS):
            order = ("grpo", "progrpo") if repeat % 2 == 0 else ("progrpo", "grpo")
            seconds = {method: median_step_seconds(method, repeat, Path(directory)) for method in order}
            ratios.append(seconds["progrpo"] / seconds["grpo"])
            print(f"| {repeat} | {seconds['grpo']:.3f} | {seconds['progrpo']:.3f} | {ratios[-1]:.3f} |", flush=True)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    print(f"\nratio: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}; {packages}")


if __name__ == "__main__":
    main()
