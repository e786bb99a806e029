"""Time and memory of ``progrpo`` relative to ``grpo``, on the same work and at the same time.

Two processes, one per method, run the real command line. They take turns of a fifth of a second, in which the other one
waits, until both have made the update; the methods alternate in who starts. Any longer disturbance of the machine thus
affects both. Both use the same seed and a learning rate that changes no weight, so that they sample the same
completions (this is checked); otherwise the ratio would depend on which policy has learnt to write shorter answers.

Time is measured over the turns of one rollout (sampling, scores, updates, metrics), without the first rollout of a
process. The result is the median of the ratio over all pairs, with a bootstrap interval. The wall-clock time decides.
The processor time, which other processes disturb less, and its share inside ARM's own calls are reported too.

Memory is the largest resident set of the process while it trains (VmHWM, reset when training starts), as the ratio of
each pair of processes. It includes the memory at the start (interpreter, libraries, weights), which is reported too.
Memory has its own processes, in which glibc returns each block of 64 KiB or more at once. By default it keeps freed
blocks, and then the same work differs by 4 % either way, depending on the layout of the heap.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

METHODS = ("grpo", "progrpo")
WANTED = {"time": 1.03, "memory": 1.02}
SAME = ("reward", "completion_length", "entropy", "pass@1")
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
ROLLOUTS_FOR_MEMORY = 2
OPTIONS = ["train.learning_rate=1e-30", "train.save_every=1000000", "tracking.wandb.mode=disabled"]


@dataclass
class Cost:
    """The measurements: one row per pair, grpo then progrpo."""

    wall: list[list[float]] = field(default_factory=list)
    """Seconds per rollout, including its updates."""
    cpu: list[list[float]] = field(default_factory=list)
    """Processor seconds per rollout."""
    in_arm: list[list[float]] = field(default_factory=list)
    """Processor seconds per rollout inside ARM's own calls."""
    peak: list[list[float]] = field(default_factory=list)
    """Largest resident set of a process while it trains, MiB."""
    at_start: list[list[float]] = field(default_factory=list)
    """Resident set when training starts, MiB."""


class Process:
    """A ``progrpo train`` that runs only during its turns."""

    def __init__(self, method: str, overrides: list[str], directory: Path, variables: Mapping[str, str]) -> None:
        self.run = directory / method
        reports, report_fd = os.pipe()
        command = [sys.executable, Path(__file__).with_name("_train_in_turns.py"), str(report_fd), "train", "-q"]
        self._process = subprocess.Popen(
            [*command, "--run-dir", self.run, f"method={method}", *overrides, *OPTIONS],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[report_fd],
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables},
        )
        os.close(report_fd)
        self._reports = os.fdopen(reports)
        self.ready = self._report()

    def _report(self) -> dict[str, float]:
        line = self._reports.readline()
        if not line:
            raise RuntimeError(f"{self.run.name} ended with {self._process.wait()}")
        return json.loads(line)

    def turn(self) -> dict[str, float]:
        """Run one turn: wall-clock and processor seconds, peak MiB so far, and whether the update is over."""
        print(file=self._process.stdin, flush=True)
        return self._report()

    def finish(self) -> list[tuple[float, ...]]:
        """End the run; returns the metrics of its rollouts, to compare them with the other method's."""
        self._process.stdin.close()
        assert self._process.wait() == 0
        lines = map(json.loads, (self.run / "metrics.jsonl").read_text().splitlines())
        return [tuple(line[name] for name in SAME) for line in lines]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(overrides: list[str], *, updates: int, rounds: int, rollouts: int) -> Cost:
    """Measure time, then memory in other processes.

    Args:
        overrides: the recipe of both methods.
        updates: updates per rollout of the recipe.
        rounds: pairs of processes, run one after the other, each pair with its own seed.
        rollouts: rollouts of each process, the first of which is not counted.
    """
    time = _in_turns(overrides, updates, rounds, rollouts, {})
    memory = _in_turns(overrides, updates, rounds, ROLLOUTS_FOR_MEMORY, GIVE_BACK)
    return replace(time, peak=memory.peak, at_start=memory.at_start)


def _in_turns(overrides: list[str], updates: int, rounds: int, rollouts: int, variables: Mapping[str, str]) -> Cost:
    cost = Cost()
    for seed in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            processes: list[Process] = []
            try:
                for method in METHODS:
                    settings = [*overrides, f"seed={seed}", f"train.steps={updates * rollouts}"]
                    processes.append(Process(method, settings, Path(directory), variables))
                for rollout in range(rollouts):
                    totals = np.zeros((len(METHODS), 3))
                    for _ in range(updates):
                        for index, took in _turns(processes, (0, 1) if (rollout + seed) % 2 == 0 else (1, 0)):
                            totals[index] += (took["wall"], took["cpu"], took["in_arm"])
                            processes[index].ready["peak"] = took["peak"]
                    print(f"seed {seed}, rollout {rollout + 1}/{rollouts}: {totals[:, 0]} s", file=sys.stderr)
                    if rollout:
                        cost.wall.append(totals[:, 0].tolist())
                        cost.cpu.append(totals[:, 1].tolist())
                        cost.in_arm.append(totals[:, 2].tolist())
                cost.at_start.append([process.ready["at_start"] for process in processes])
                cost.peak.append([process.ready["peak"] for process in processes])
                grpo, progrpo = (process.finish() for process in processes)
                if grpo != progrpo:
                    raise RuntimeError(f"the methods did not train on the same rollouts: {grpo} and {progrpo}")
            finally:
                for process in processes:
                    process.stop()
    return cost


def _turns(processes: Sequence[Process], order: Sequence[int]) -> Iterator[tuple[int, dict[str, float]]]:
    """Run turns until each process has made an update; yields the index of the process and its measurements."""
    waiting = list(order)
    while waiting:
        for index in list(waiting):
            took = processes[index].turn()
            yield index, took
            if took["over"]:
                waiting.remove(index)


def ratio(pairs: list[list[float]], rounds: int) -> tuple[float, float, float]:
    """The median ratio of progrpo to grpo over pairs, and its 95 % interval by percentile bootstrap.

    Pairs of processes differ as a whole (heap, cores), so the bootstrap draws rounds, then pairs of rollouts in each.

    Args:
        pairs: the measurements, round by round, with equally many in each.
        rounds: number of rounds.
    """
    ratios = np.array([after / before for before, after in pairs]).reshape(rounds, -1)
    random = np.random.default_rng(0)
    index = random.integers(rounds, size=(10_000, rounds))
    rollout = random.integers(ratios.shape[1], size=(10_000, rounds, ratios.shape[1]))
    drawn = ratios[index[:, :, None], rollout].reshape(10_000, -1)
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def format_cost(title: str, cost: Cost) -> str:
    """The measurements as Markdown."""
    rows = [
        ("seconds a rollout", cost.wall, WANTED["time"], ".3f"),
        ("the same, of the processor", cost.cpu, WANTED["time"], ".3f"),
        ("peak memory while training, MiB", cost.peak, WANTED["memory"], ".0f"),
    ]
    lines = [f"**{title}**", "", "| | pairs | grpo | progrpo | ratio | wanted |", "|---|---|---|---|---|---|"]
    for name, pairs, wanted, form in rows:
        value, low, high = ratio(pairs, len(cost.peak))
        grpo, progrpo = np.median(pairs, axis=0)
        verdict = "yes" if high <= wanted else "no" if low > wanted else "not decided"
        lines.append(
            f"| {name} | {len(pairs)} | {grpo:{form}} | {progrpo:{form}} | {value:.4f} [{low:.4f}, {high:.4f}] "
            f"| at most {wanted}: {verdict} |"
        )
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    resident = np.median(cost.at_start, axis=0)
    share = np.array(cost.in_arm)[:, 1] / np.array(cost.cpu)[:, 1]
    return "\n".join(
        [
            *lines,
            "",
            f"Inside ARM's own calls: {100 * np.median(share):.2f} % of progrpo's processor time "
            f"({100 * share.min():.2f} to {100 * share.max():.2f} % over rollouts).",
            f"Resident when training starts: {resident[0]:.0f} and {resident[1]:.0f} MiB. Medians; Python "
            f"{sys.version.split()[0]}, {packages}; {datetime.now(UTC):%Y-%m-%d}.",
            "",
        ]
    )
