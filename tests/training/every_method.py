"""Two updates of each method on a recorded rollout: `accelerate launch every_method.py DIRECTORY METHOD...`.

Each process writes DIRECTORY/<rank>.pt with the weights of the policy and the head (if any) and the logs, by method.
"""

import sys
import tempfile
from pathlib import Path

import torch
from transformers import TrainerCallback

sys.path.append(str(Path(__file__).parents[1] / "methods"))
from replay import make_trainer

from progrpo_cli import processes

OPTIONS = {"passk": ["method.k=2"], "progrpo": ["method.arm.alpha=0.7"], "gspo": ["method.arm.alpha=0.7"]}


class LogRecorder(TrainerCallback):
    def __init__(self, trainer):
        self.trainer = trainer
        self.records = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.records.append({**logs, **self.trainer.rollout_metrics})


def train_two_updates(method: str) -> dict:
    # Two processes have two micro-batches of four completions each; one process has four.
    options = [f"method={method}", "train.steps=2", "train.micro_batch_size=4", *OPTIONS.get(method, ())]
    with tempfile.TemporaryDirectory() as directory:
        _, trainer = make_trainer(Path(directory), *options)
        recorder = LogRecorder(trainer)
        trainer.add_callback(recorder)
        trainer.train()
    head = trainer._head.module.state_dict() if trainer._head else {}
    return {
        "weights": {**trainer.model.state_dict(), **{f"head.{name}": value for name, value in head.items()}},
        "records": recorder.records,
    }


if __name__ == "__main__":
    processes.join("cpu")
    torch.save({name: train_two_updates(name) for name in sys.argv[2:]}, Path(sys.argv[1]) / f"{processes.rank()}.pt")
