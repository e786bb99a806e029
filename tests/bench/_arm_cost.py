"""Time and memory of ``progrpo`` over ``grpo``, on the same work and at the same time.

Two processes run the real command line, one a method, and take turns of a fifth of a second, in which the other one
waits, until both have made the update (grpo first, then progrpo first, and so on). Whatever else the machine does for
longer than that falls on both. Both draw from the same seed with a learning rate that changes no weight, so that both
sample the very same completions all along (which is checked): else the ratio would say whose policy has learnt to write
shorter answers.

Time: of the turns of one rollout (sampling, scores, updates, metrics), the first rollout of a process left out; the
ratio of a pair, its median over all pairs, and a bootstrap interval over pairs. Wall-clock time is what counts; the
processor's stands beside it, which other processes on the machine disturb less, and so does its part inside ARM's own
calls, which needs no comparison.

Memory: the largest resident set of the whole process while it trains (VmHWM, set back when training starts), the ratio
of each pair of processes. What was resident at the start (interpreter, libraries, weights) is in it, and named. These
processes are others than those of the time: glibc is told to give every block of 64 KiB and more back at once. Left to
itself it keeps freed blocks, and the same work then differs by 4 % either way, as its heap happens to be laid out.
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
    """What was measured: a row a pair, grpo then progrpo."""

    wall: list[list[float]] = field(default_factory=list)
    """Seconds a rollout, with all that is done on it."""
    cpu: list[list[float]] = field(default_factory=list)
    """The same in seconds of the processor."""
    in_arm: list[list[float]] = field(default_factory=list)
    """Of these, inside ARM's own calls."""
    peak: list[list[float]] = field(default_factory=list)
    """Largest resident set of a process while it trains, MiB."""
    at_start: list[list[float]] = field(default_factory=list)
    """Resident when training starts, MiB."""


class Process:
    """``progrpo train`` that makes an update when it is told to."""

    def __init__(self, method: str, overrides: list[str], directory: Path, variables: Mapping[str, str]) -> None:
        self.run = directory / method
        reports, told = os.pipe()
        command = [sys.executable, Path(__file__).with_name("_train_in_turns.py"), str(told), "train", "-q"]
        self._process = subprocess.Popen(
            [*command, "--run-dir", self.run, f"method={method}", *overrides, *OPTIONS],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[told],
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables},
        )
        os.close(told)
        self._reports = os.fdopen(reports)
        self.ready = self._report()

    def _report(self) -> dict[str, float]:
        line = self._reports.readline()
        if not line:
            raise RuntimeError(f"{self.run.name} ended with {self._process.wait()}")
        return json.loads(line)

    def turn(self) -> dict[str, float]:
        """One turn: seconds of the clock and of the processor, MiB at most so far, whether the update is over."""
        print(file=self._process.stdin, flush=True)
        return self._report()

    def finish(self) -> list[tuple[float, ...]]:
        """What the updates were made on, to be compared with the other's."""
        self._process.stdin.close()
        assert self._process.wait() == 0
        lines = map(json.loads, (self.run / "metrics.jsonl").read_text().splitlines())
        return [tuple(line[name] for name in SAME) for line in lines]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(overrides: list[str], *, updates: int, rounds: int, rollouts: int) -> Cost:
    """Time by as many rounds and rollouts, then memory by processes of their own.

    Args:
        overrides: the recipe, for both.
        updates: its updates a rollout.
        rounds: pairs of processes, one pair after the other, each with a seed of its own.
        rollouts: of each process; the first is not counted.
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
                    every = [*overrides, f"seed={seed}", f"train.steps={updates * rollouts}"]
                    processes.append(Process(method, every, Path(directory), variables))
                for rollout in range(rollouts):
                    of_rollout = np.zeros((len(METHODS), 3))
                    for _ in range(updates):
                        for which, took in _turns(processes, (0, 1) if (rollout + seed) % 2 == 0 else (1, 0)):
                            of_rollout[which] += (took["wall"], took["cpu"], took["in_arm"])
                            processes[which].ready["peak"] = took["peak"]
                    print(f"seed {seed}, rollout {rollout + 1}/{rollouts}: {of_rollout[:, 0]} s", file=sys.stderr)
                    if rollout:
                        cost.wall.append(of_rollout[:, 0].tolist())
                        cost.cpu.append(of_rollout[:, 1].tolist())
                        cost.in_arm.append(of_rollout[:, 2].tolist())
                cost.at_start.append([process.ready["at_start"] for process in processes])
                cost.peak.append([process.ready["peak"] for process in processes])
                grpo, progrpo = (process.finish() for process in processes)
                if grpo != progrpo:
                    raise RuntimeError(f"the two did not train on the same rollouts: {grpo} and {progrpo}")
            finally:
                for process in processes:
                    process.stop()
    return cost


def _turns(processes: Sequence[Process], order: Sequence[int]) -> Iterator[tuple[int, dict[str, float]]]:
    """Turn by turn until each process has made an update: whose it was, and what it took."""
    left = list(order)
    while left:
        for which in list(left):
            took = processes[which].turn()
            yield which, took
            if took["over"]:
                left.remove(which)


def ratio(pairs: list[list[float]], rounds: int) -> tuple[float, float, float]:
    """progrpo over grpo: the median over pairs, and its 95 % interval by percentile bootstrap.

    Pairs of processes differ as whole (heap, cores), so rounds are drawn, and then pairs of rollouts in each.

    Args:
        pairs: what was measured, round by round, as many in each.
        rounds: how many rounds.
    """
    ratios = np.array([after / before for before, after in pairs]).reshape(rounds, -1)
    random = np.random.default_rng(0)
    which = random.integers(rounds, size=(10_000, rounds))
    each = random.integers(ratios.shape[1], size=(10_000, rounds, ratios.shape[1]))
    drawn = ratios[which[:, :, None], each].reshape(10_000, -1)
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def shown(title: str, cost: Cost) -> str:
    """The figures as Markdown."""
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
