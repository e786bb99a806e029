"""The figure of docs/method.md: one real group of the lab's base policy, before and after ARM.

    python docs/figures/arm_group.py docs/images

samples the first rollout that `progrpo train` (ProGRPO, seed 0) makes, takes its first group with four to eight right
samples of sixteen, and writes `arm-group.png` and the numbers behind it, `arm-group.csv`.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from progrpo_cli.config.compose import compose
from progrpo_cli.policies import policy
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.training.data import reward_functions, rollout_prompts
from progrpo_cli.training.recipe import grpo_config
from progrpo_cli.training.trainer import LabTrainer

RIGHT, WRONG = "#0072B2", "#D55E00"


def rollout() -> pd.DataFrame:
    """A row a sample of the first rollout, in TRL's own log and ours."""
    config = compose(["train.steps=2"])
    task = make_task(config.task)
    problems = task.problems("rl")
    model, tokenizer = policy.load(policy.resolve(config.model.path), "float32", "cpu", chat=task.chat)
    prompts = rollout_prompts(config, problems, chat=task.chat)
    with tempfile.TemporaryDirectory() as directory:
        trainer = LabTrainer(
            method=config.method,
            model=model,
            processing_class=tokenizer,
            reward_funcs=reward_functions(config, task, problems, [tokenizer.eos_token_id]),
            args=grpo_config(config, Path(directory), "cpu"),
            train_dataset=prompts,
        )
    trainer.model.train()
    size = config.train.group_size
    trainer._generate_and_score_completions([prompts[row] for row in range(len(prompts)) for _ in range(size)])
    assert trainer.rollout_metrics["arm/gated_fraction"]
    logs = trainer._logs
    table = {"prompt": logs["prompt"], "completion": logs["completion"], "right": logs["rewards"]["correctness"]}
    frame = pd.DataFrame({**table, **logs["extra"]})
    frame["group"] = frame.index // size
    return frame


def main(directory: Path) -> None:
    frame = rollout()
    right = frame.groupby("group")["right"].sum()
    chosen = right[right.between(4, 8)].index[0]
    group = frame[frame["group"] == chosen].sort_values(["right", "c(o|q)"], ascending=False)
    group.drop(columns="group").to_csv(directory / "arm-group.csv", index=False)
    figure, axes = plt.subplots(figsize=(6.2, 4.6), layout="constrained")
    for place, (_, row) in enumerate(group.iterrows()):
        colour = RIGHT if row["right"] else WRONG
        axes.annotate("", (row["A~"], place), (row["A"], place), arrowprops={"arrowstyle": "->", "color": colour})
        axes.plot(row["A"], place, "o", mfc="white", mec=colour)
        axes.plot(row["A~"], place, "o", color=colour)
    labels = [f"{row['completion']}   c(o|q) = {row['c(o|q)']:.2f}" for _, row in group.iterrows()]
    axes.set_yticks(range(len(group)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("advantage: A (open) to A~ (filled); blue right, orange wrong")
    prompt, confidence = group["prompt"].iloc[0], group["c(q)"].iloc[0]
    axes.set_title(f"prompt {prompt}   c(q) = {confidence:.2f}, alpha = 1", fontsize=10)
    figure.savefig(directory / "arm-group.png", dpi=200)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
