"""A rollout of the lab with our trainer and with TRL's own: samples per second, and the time of each part.

Base policy, prompts, batch, length limit and updates per rollout are the same; there is no tracking and there are no
checkpoints. In each round both trainers are made anew and run in this process, one after the other.
"""

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOTrainer

from progrpo_cli.config.compose import compose
from progrpo_cli.policies import policy
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.training.data import reward_functions, rollout_prompts
from progrpo_cli.training.recipe import grpo_config
from progrpo_cli.training.trainer import LabTrainer

ROUNDS, ROLLOUTS = 5, 4  # the first rollout of a round warms up and is not counted
PARTS = {
    "sampling": "_generate_single_turn",
    "scoring for the old policy and the loss's forward pass": "_get_per_token_logps_and_entropies",
    "the whole rollout (sampling, verdicts, scoring)": "_generate_and_score_completions",
    "the loss's forward pass and the loss": "_compute_loss",
    "an update without the optimiser (rollout, loss, backward)": "training_step",
}


class Timed(TrainerCallback):
    """Records the seconds of each update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: object, **__: object) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def train(kind: type[GRPOTrainer], overrides: list[str], spent: dict[str, float]) -> tuple[float, float]:
    """Seconds per rollout with its updates, and tokens per sample; adds the time of each part to ``spent``."""
    config = compose(["method=grpo", "device=cpu", *overrides])
    updates = config.train.updates_per_rollout
    config = compose(["method=grpo", "device=cpu", *overrides, f"train.steps={ROLLOUTS * updates}"])
    task = make_task(config.task)
    problems = task.problems("rl")
    model, tokenizer = policy.load(policy.resolve(config.model.path), "float32", "cpu", chat=task.chat)
    with tempfile.TemporaryDirectory() as directory:
        own = {"method": config.method} if kind is LabTrainer else {}
        trainer = kind(
            model=model,
            processing_class=tokenizer,
            reward_funcs=reward_functions(config, task, problems, [tokenizer.eos_token_id]),
            args=grpo_config(config, Path(directory), "cpu"),
            train_dataset=rollout_prompts(config, problems, chat=task.chat),
            **own,
        )
        trainer.remove_callback(PrinterCallback)
        timed = Timed()
        trainer.add_callback(timed)
        for part, name in PARTS.items():
            setattr(trainer, name, time_calls(getattr(trainer, name), spent, part))
        trainer.train()
        lengths = [line["completions/mean_length"] for line in trainer.state.log_history if "reward" in line]
    counted = timed.seconds[updates:]
    return sum(counted) / (ROLLOUTS - 1), statistics.mean(lengths)


def time_calls(function: Callable[..., object], spent: dict[str, float], part: str) -> Callable[..., object]:
    def timed(*args: object, **kwargs: object) -> object:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[part] += time.perf_counter() - began

    return timed


def main() -> None:
    for threads in (1, 2):
        torch.set_num_threads(threads)
        compare(threads, [])


def compare(threads: int, overrides: list[str]) -> None:
    samples = compose(overrides).train.prompts_per_rollout * compose(overrides).train.group_size
    rates: dict[str, list[float]] = defaultdict(list)
    spent = {"TRL": defaultdict(float), "ours": defaultdict(float)}
    for _ in range(ROUNDS):
        for name, kind in (("TRL", GRPOTrainer), ("ours", LabTrainer)):
            seconds, length = train(kind, overrides, spent[name])
            rates[name].append(samples / seconds)
    ratios = [ours / trl for ours, trl in zip(rates["ours"], rates["TRL"], strict=True)]
    print(f"\n{threads} threads, {samples} samples a rollout, {length:.1f} tokens a sample\n")
    print("| | TRL's GRPOTrainer | ours |\n| --- | ---: | ---: |")
    print("| samples a second | " + " | ".join(f"{statistics.median(rates[name]):.0f}" for name in spent) + " |")
    for part in PARTS:
        cells = [f"{seconds[part] / ROUNDS / ROLLOUTS:.3f}" for seconds in spent.values()]
        print(f"| {part}, s a rollout | " + " | ".join(cells) + " |")
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"\nours / TRL: median {statistics.median(ratios):.2f}, {spread} in {ROUNDS} rounds", flush=True)
