"""How often a policy of the lab uses each style of answers and is right: free, and with the style forced.

``python tests/bench/lab_styles.py [POLICY...]`` takes model directories such as ``runs/NAME/policy``; by default it
uses the shipped base.
"""

import sys
from collections.abc import Sequence

import numpy as np
from lab_bar import MAX_NEW_TOKENS, make_sampler

from progrpo_cli.config.paths import LAB_BASE
from progrpo_cli.metrics.passk import pass_at_k
from progrpo_cli.sampling.base import Batch, Sample, derived_seed
from progrpo_cli.sampling.hf import HfSampler
from progrpo_cli.tasks.base import Attempt, Problem
from progrpo_cli.tasks.countdown.styles import STEPWISE, STYLES, split_tries, style_of
from progrpo_cli.tasks.countdown.task import Countdown

PROBLEMS = 300
SAMPLES = 64
GROUP = 16
TEMPERATURES = (1.0, 0.3)
KS = (1, 8, 32)


def main(policies: Sequence[str] = (LAB_BASE,)) -> None:
    task = Countdown(MAX_NEW_TOKENS, {"rl": 0, "validation": 0, "test": PROBLEMS})
    problems = task.problems("test")
    for name in policies:
        for temperature in TEMPERATURES:
            sampler = make_sampler(name, temperature)
            print(f"\n{name}, temperature {temperature:g}; {PROBLEMS} test problems, n = {SAMPLES}\n")
            print("| begins with | pass@1 | " + " | ".join(f"pass@{k}" for k in KS[1:]), end=" | ")
            print(
                f"mixed groups of {GROUP} | tokens | cut | " + " | ".join(f"{style}: share, right" for style in STYLES),
                end=" |\n",
            )
            print("|" + "---|" * (len(KS) + 4 + len(STYLES)))
            for beginning in ("", *(f"{style}:" for style in STEPWISE)):
                print(_row(task, problems, sampler, beginning), flush=True)


def _row(task: Countdown, problems: Sequence[Problem], sampler: HfSampler, beginning: str) -> str:
    """The table's row for all samples with a given beginning."""
    batches = [
        Batch([problem.prompt + beginning] * SAMPLES, derived_seed(f"{beginning} {problem.id}")) for problem in problems
    ]
    samples: list[list[Sample]] = list(sampler.sample(batches))
    attempts = [
        [Attempt(problem, beginning + sample.text, sample.finished) for sample in drawn]
        for problem, drawn in zip(problems, samples, strict=True)
    ]
    right = np.array([[verdict == "correct" for verdict in task.verdicts(row)] for row in attempts])
    styles = np.array([[style_of(attempt.text) for attempt in row] for row in attempts])
    tries = np.array([[len(split_tries(attempt.text)) for attempt in row] for row in attempts])
    groups = right.reshape(len(problems), -1, GROUP).mean(2)
    cells = [beginning or "free"]
    cells += [f"{np.mean([pass_at_k(SAMPLES, int(count), k) for count in right.sum(1)]):.3f}" for k in KS]
    cells += [f"{((groups > 0) & (groups < 1)).mean():.2f}"]
    cells += [f"{np.mean([sample.tokens for drawn in samples for sample in drawn]):.1f}"]
    cells += [f"{np.mean([not sample.finished for drawn in samples for sample in drawn]):.3f}"]
    for style in STYLES:
        here = styles == style
        shown = f"{here.mean():.3f}, {right[here].mean():.3f}" if here.any() else "-"
        cells.append(shown + (f" ({tries[here].mean():.1f} tries)" if style != "direct" and here.any() else ""))
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(sys.argv[1:] or (LAB_BASE,))
