"""The files that commands read, each with the commands that read it, and odd answers for the judges."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from progrpo_cli.errors import ProgrpoError
from progrpo_cli.tasks.base import Attempt, Task

TINY = ["train.steps=2", "train.prompts_per_rollout=2", "train.group_size=4", "task.validation_problems=4"]
SPACE = """overrides: [train.steps=2, train.prompts_per_rollout=2, train.group_size=4, task.validation_problems=2]
parameters:
  method.arm.alpha: [0.0, 1.0]
  train.learning_rate: {type: log-float, low: 1.0e-5, high: 1.0e-3}
seeds: [0, 1]
objectives: [{metric: pass@1, direction: maximize}]
sampler: {name: random}
budget: {trials: 2}
"""
OWN = "".join(f'{{"prompt": "{number} + 1", "answer": "{number + 1}", "id": "{number}"}}\n' for number in range(20))


@dataclass(frozen=True)
class Target:
    """A file, and the command lines that read it."""

    path: Path
    commands: tuple[tuple[str, ...], ...]


def make_workspace() -> list[Target]:
    """Make valid files of every kind in the working directory, by the real commands."""

    def progrpo(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "progrpo_cli", *arguments, "-q"], check=True, stdout=subprocess.DEVNULL)

    Path("space.yaml").write_text(SPACE)
    Path("own.jsonl").write_text(OWN)
    folder = Path("folder/method")
    folder.mkdir(parents=True)
    shipped = Path(__file__).resolve().parents[2] / "experiments/method/progrpo.yaml"
    shutil.copy(shipped, folder / "mine.yaml")
    progrpo("train", *TINY, "--run-dir", "runs/one")
    progrpo("eval", "runs/one", "--k", "1,2", "--n", "4", "--limit", "8")
    progrpo("sweep", "--space", "space.yaml", "--study", "study", "--workers", "1")
    offline = [path.parent for path in Path("runs/one/wandb").glob("*/*.wandb")]
    shutil.copytree(offline[0], "offline/run")
    report = ("report", "runs/one", "--out", "out", "--format", "term,csv,html")
    evaluate = ("eval", "runs/one", "--k", "1,2", "--n", "4", "--limit", "8")
    resume = ("train", "--run-dir", "runs/one", *TINY)
    status = ("sweep", "--status", "--study", "study")
    dry = ("sweep", "--space", "space.yaml", "--study", "new", "--dry-run")
    own_task = ("--tasks", "own", "--set", "task.dataset=own.jsonl", "--set", "task.chat=false")
    own = ("eval", "progrpo/lab-base", *own_task, "--n", "2", "--k", "1", "--fresh")
    targets = [
        Target(path, (report, ("list", "runs"), evaluate, resume)) for path in _files("runs/one", ("*.json", "*.yaml"))
    ]
    targets += [Target(path, (report, evaluate)) for path in _files("runs/one", ("*.jsonl",))]
    targets += [
        Target(path, (status, ("report", "runs/study", "--out", "out")))
        for path in _files("runs/study", ("*.yaml", "*.journal"))
    ]
    targets += [Target(path, (status,)) for path in _files("runs/study/ledger", ("*",))]
    targets += [
        Target(path, (("report", "wandb-offline:offline", "--out", "out"),)) for path in _files("offline", ("*.wandb",))
    ]
    targets += [
        Target(Path("space.yaml"), (dry,)),
        Target(folder / "mine.yaml", (("train", "--config-dir", "folder", "method=mine", "--dry-run"),)),
        Target(Path("own.jsonl"), (own,)),
    ]
    return targets


def _files(root: str, patterns: Sequence[str]) -> list[Path]:
    """Return the files below ``root`` that match a pattern, without those of W&B."""
    paths = {
        path
        for pattern in patterns
        for path in Path(root).rglob(pattern)
        if path.is_file() and "wandb/" not in str(path)
    }
    return sorted(paths)


ANSWERS = [
    r"so \boxed{\frac{1}{2}}", r"The answer is $x=3$.", "#### 5", "<think>4</think> **B**, because", "(C)",
    r"$\{1,2\}$", "1,234.5 %", "7*5=35",
    "```python\ndef f(x):\n    return x\n```", "product:7*5=35-3=32-2=30;7-2=5*5=25+3=28", "(7-2)*5+3",
    r"\boxed{(1, \infty)}", "答案：5", r"\sqrt{2}+\pi^{10}",
]  # fmt: skip
PIECES = [
    "\\boxed{", "}", "{", "$", "\\frac", "^", "_", "9" * 400, "e999", "(" * 200, "\\sqrt", "!", "%", "```",
    "</think>", "<think>", "\x00", "\ud800", "\u202e",
    "i", "\\infty", "\\left(", "\\begin{pmatrix}", "&", "\\\\", "=", ",", ";", "\n", " or ", "10^10^10", "\\text{",
    "A", "*", "**", "٣", "½", "±", "\\log", "..",
]  # fmt: skip


def answer(rng: random.Random) -> str:
    """Return a usual answer with pieces of other answers and of notation inserted."""
    text = rng.choice(ANSWERS)
    for _ in range(rng.randrange(6)):
        place = rng.randrange(len(text) + 1)
        piece = rng.choice(PIECES if rng.random() < 0.7 else ANSWERS)
        text = text[:place] + piece * rng.choice((1, 1, 2, 40)) + text[place + rng.choice((0, 0, 1, 5)) :]
    return text[:20_000]


def judge(tasks: Sequence[Task], rng: random.Random) -> str:
    """Judge a batch of answers. Return what is wrong with the verdicts, or an empty string."""
    task = rng.choice(tasks)
    problem = rng.choice(task.problems("test"))
    texts = [answer(rng) for _ in range(8)]
    try:
        verdicts = task.verdicts([Attempt(problem, text, True) for text in texts])
    except ProgrpoError as error:
        return f"{task.name}: {error}: {texts}"
    errors = [text for text, verdict in zip(texts, verdicts, strict=True) if verdict == "error"]
    return f"{task.name}: error as the verdict on {errors}" if errors else ""


def remove(path: Path) -> None:
    """Delete a file, a link, a pipe or a directory."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def directory_in_place(path: Path) -> None:
    path.mkdir()


def empty(path: Path) -> None:
    path.touch()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def nothing(path: Path) -> None:
    """The file is missing."""


REPLACEMENTS: list[Callable[[Path], None]] = [directory_in_place, empty, pipe, endless, loop, nothing]
