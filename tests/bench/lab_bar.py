"""Tests whether RL on the lab beats the base at every temperature: the bar of docs/lab.md.

``python tests/bench/lab_bar.py [train.KEY=VALUE...]`` trains GRPO in ``runs/lab-bar/``, on seeds that were not used to
choose a recipe, and compares it with the base on test problems that nothing else uses. If stopped, it can be continued.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from progrpo_cli.config.paths import LAB_BASE
from progrpo_cli.metrics.passk import pass_at_k
from progrpo_cli.policies import policy
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.sampling.base import Batch, derived_seed
from progrpo_cli.sampling.hf import HfSampler
from progrpo_cli.tasks.base import Attempt, Problem
from progrpo_cli.tasks.countdown.task import Countdown

SEEDS = (101, 102, 103)
FRESH = slice(300, 600)
"""Problems of the test split; `progrpo eval` uses the first 300."""
TEMPERATURES = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0, 1.3)
SAMPLES = 64
MAX_NEW_TOKENS = 30
DRAWS = 10_000
RUNS = Path("runs/lab-bar")
Floats = npt.NDArray[np.float64]


def main(overrides: Sequence[str] = ()) -> None:
    task, problems = fresh_problems()
    print(f"| policy | temperature | pass@1 | pass@32 |\n|{'---|' * 4}")
    base = [sample_correctness(task, problems, LAB_BASE, temperature) for temperature in TEMPERATURES]
    for temperature, correct in zip(TEMPERATURES, base, strict=True):
        print(f"| base | {temperature:g} | {correct.mean():.3f} | {pass_at(32, correct)} |", flush=True)
    rates = np.array([correct.mean(1) for correct in base])
    lines = []
    for seed in SEEDS:
        run = RUNS / f"grpo-s{seed}"
        train(run, seed, overrides)
        correct = sample_correctness(task, problems, str(run / "policy"), 1.0)
        print(f"| GRPO, seed {seed} | 1 | {correct.mean():.3f} | {pass_at(32, correct)} |", flush=True)
        low, high = gain_interval(correct.mean(1), rates, np.random.default_rng(seed))
        gain = correct.mean() - rates.mean(1).max()
        updates = RunDirectory(run).metrics()
        rewards, fifth = [update["reward"] for update in updates], max(1, len(updates) // 5)
        lines.append(
            f"seed {seed}: {gain:+.3f} [{low:+.3f}, {high:+.3f}] over the base's best temperature; training reward "
            f"{np.mean(rewards[:fifth]):.3f} in the first fifth, {np.mean(rewards[-fifth:]):.3f} in the last; "
            f"mixed groups at the start {1 - updates[0]['zero_variance_fraction']:.2f}"
        )
    print("\n" + "\n".join(lines))


def fresh_problems() -> tuple[Countdown, Sequence[Problem]]:
    """The task, and the test problems that nothing else uses."""
    task = Countdown(MAX_NEW_TOKENS, {"rl": 0, "validation": 0, "test": FRESH.stop})
    return task, task.problems("test")[FRESH]


def train(run: Path, seed: int, overrides: Sequence[str], program: Sequence[str] = ("-m", "progrpo_cli")) -> None:
    """Train GRPO in a directory, or continue there. All completions are kept for the controls."""
    command = [
        sys.executable,
        *program,
        "train",
        "method=grpo",
        f"seed={seed}",
        "train.keep_completions=1000",
        *overrides,
    ]
    subprocess.run([*command, "--run-dir", str(run)], check=True)


def gain_interval(policy_rates: Floats, base_rates: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of the gain over the base's best temperature, which is chosen again in each resample.

    Args:
        policy_rates: (P,) share of right samples of each problem.
        base_rates: (T, P) the same for each temperature of the base.
        rng: resamples the problems.
    """
    resampled = rng.integers(len(policy_rates), size=(DRAWS, len(policy_rates)))
    best = np.array([rates[resampled].mean(1) for rates in base_rates]).max(0)
    low, high = np.percentile(policy_rates[resampled].mean(1) - best, [2.5, 97.5])
    return float(low), float(high)


def make_sampler(name: str, temperature: float) -> HfSampler:
    """A sampler of a policy with the settings of the lab's evaluation."""
    model, tokenizer = policy.load(policy.resolve(name), "float32", "cpu", chat=False)
    return HfSampler(model, tokenizer, temperature=temperature, top_p=1.0, max_new_tokens=MAX_NEW_TOKENS, chat=False)


def sample_correctness(
    task: Countdown,
    problems: Sequence[Problem],
    name: str,
    temperature: float,
    samples: int = SAMPLES,
    beginning: str = "",
) -> npt.NDArray[np.bool_]:
    """Whether each sample is right, (problems, samples). At temperature 0 there is one sample per problem.

    Args:
        task: judges the samples.
        problems: the problems.
        name: name of the policy.
        temperature: the sampling temperature.
        samples: samples per problem.
        beginning: text that each answer begins with.
    """
    sampler = make_sampler(name, temperature)
    count = samples if temperature else 1
    batches = [Batch([problem.prompt + beginning] * count, derived_seed(problem.id)) for problem in problems]
    verdicts = [
        task.verdicts([Attempt(problem, beginning + sample.text, sample.finished) for sample in batch_samples])
        for problem, batch_samples in zip(problems, sampler.sample(batches), strict=True)
    ]
    return np.array([[verdict == "correct" for verdict in row] for row in verdicts])


def pass_at(k: int, correct: npt.NDArray[np.bool_]) -> str:
    """Mean Pass@k as text; empty if there are fewer than k samples."""
    samples = correct.shape[1]
    return f"{np.mean([pass_at_k(samples, int(count), k) for count in correct.sum(1)]):.3f}" if samples >= k else ""


if __name__ == "__main__":
    main(sys.argv[1:])
