"""Damaged files for the commands that read them, and odd answers for the judges: ``python tests/fuzz [--minutes 10]``.

The commands run in this process, through their entry point. A finding is an unexpected exception (the command writes a
crash file), an exit code outside the contract, the verdict ``error``, or a command that takes more than a minute. Each
finding is saved in ``runs/fuzz/`` with the damaged file and the command line, and the exit code is 1.
"""

import argparse
import contextlib
import faulthandler
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import fuzz_targets as fuzzed
from fuzz_mutations import mutated
from fuzz_targets import Target

from progrpo_cli.tasks.base import Task

SECONDS = 60
ANSWERS = 0.2
"""Share of turns that judge answers."""


class TooLong(BaseException):
    """A command did not end."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raise TooLong inside, after a minute."""

    def ring(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def outcome(command: Sequence[str], state: Path) -> str:
    """Run a command in this process. Return what is wrong with how it ended, or an empty string.

    Args:
        command: the arguments of ``progrpo``.
        state: the directory of its crash files.
    """
    from progrpo_cli.main import run

    before = sys.argv
    sys.argv = ["progrpo", *command, "-q"]
    out, code = io.StringIO(), 0
    try:
        with time_limit(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except TooLong:
        return f"not done after {SECONDS} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        sys.argv = before
    crashes = sorted(state.rglob("*.txt"))
    if crashes:
        text = crashes[0].read_text(encoding="utf-8")
        for path in crashes:
            path.unlink()
        return text
    return "" if code in (0, 1, 2) else f"exit code {code}: {out.getvalue()[-500:]}"


def judged(tasks: Sequence[Task], rng: random.Random) -> str:
    """Judge a batch of odd answers within the time limit. Return what is wrong, or an empty string."""
    try:
        with time_limit():
            return fuzzed.judge(tasks, rng)
    except TooLong:
        return f"not judged after {SECONDS} s"
    except Exception:
        return traceback.format_exc()


def turn(target: Target, state: Path, rng: random.Random) -> tuple[Sequence[str], bytes | str, str]:
    """Put a damaged file in a target's place, run one of its commands, and put the file back.

    Returns:
        The command, the damaged content or the name of the replacement, and what is wrong (empty if nothing is).
    """
    original = target.path.read_bytes()
    command = rng.choice(target.commands)
    damage: bytes | str
    try:
        if rng.random() < 0.1:
            replace = rng.choice(fuzzed.REPLACEMENTS)
            damage = replace.__name__
            fuzzed.remove(target.path)
            replace(target.path)
        else:
            damage = mutated(original, target.path.name, rng)
            target.path.write_bytes(damage)
        wrong = outcome(command, state)
    finally:
        fuzzed.remove(target.path)
        target.path.write_bytes(original)
    return command, damage, wrong


def fuzz(seconds: float, seed: int, kept: Path) -> int:
    """Take turns until the time is up.

    Args:
        seconds: how long, without the time to make the valid files.
        seed: the seed of all random numbers.
        kept: the directory for findings, one subdirectory each.

    Returns:
        How many findings there were.
    """
    from progrpo_cli.config.compose import compose
    from progrpo_cli.tasks.registry import make_task

    rng = random.Random(seed)
    findings = turns = 0
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        state = Path(directory, "state")
        os.environ |= {"XDG_STATE_HOME": str(state), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
        targets = fuzzed.make_workspace()
        valid = Path(directory, "valid")
        shutil.copytree("runs", valid / "runs")
        own = ["task=own", "task.dataset=own.jsonl"]
        tasks = [make_task(compose(overrides).task) for overrides in ([], own)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            turns += 1
            command: Sequence[str] = ("judge",)
            damage: bytes | str = ""
            if rng.random() < ANSWERS:
                wrong = judged(tasks, rng)
            else:
                target = rng.choice(targets)
                command, damage, wrong = turn(target, state, rng)
                if command[0] != "report" and command[0] != "list":  # others write beside what they read
                    shutil.rmtree("runs")
                    shutil.copytree(valid / "runs", "runs")
            if wrong:
                findings += 1
                place = kept / f"{seed}-{findings}"
                keep(place, f"progrpo {' '.join(command)}\n{wrong}\n", damage)
                print(f"finding {findings}: {place}: {wrong.strip().splitlines()[-1][:200]}", flush=True)
    print(f"{turns} turns with seed {seed}, {findings} findings")
    return findings


def keep(place: Path, description: str, damage: bytes | str) -> None:
    """Write a finding down: the command line with what was wrong, and what was put in the file's place."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "what.txt").write_text(description, encoding="utf-8", errors="backslashreplace")
    (place / "damage").write_bytes(damage if isinstance(damage, bytes) else damage.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.enable()
    sys.exit(bool(fuzz(60 * arguments.minutes, arguments.seed, Path("runs/fuzz").resolve())))
