"""Two updates of each method on a recorded rollout: `accelerate launch every_method.py DIRECTORY METHOD...`.

Each process writes DIRECTORY/<rank>.pt: by method the policy's weights, the head's if there is one, what was logged.
"""

import sys
import tempfile
from pathlib import Path

import torch
from transformers import TrainerCallback

sys.path.append(str(Path(__file__).parents[1] / "methods"))
from replay import lab

from progrpo_cli import processes

OPTIONS = {"passk": ["method.k=2"], "progrpo": ["method.arm.alpha=0.7"], "gspo": ["method.arm.alpha=0.7"]}


class Logged(TrainerCallback):
    def __init__(self, trainer):
        self.trainer = trainer
        self.records = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.records.append({**logs, **self.trainer.rollout_metrics})


def trained(method: str) -> dict:
    # On two processes each has two passes of four completions; one process has four.
    options = [f"method={method}", "train.steps=2", "train.micro_batch_size=4", *OPTIONS.get(method, ())]
    with tempfile.TemporaryDirectory() as directory:
        _, trainer = lab(Path(directory), *options)
        logged = Logged(trainer)
        trainer.add_callback(logged)
        trainer.train()
    head = trainer._head.module.state_dict() if trainer._head else {}
    return {
        "weights": {**trainer.model.state_dict(), **{f"head.{name}": value for name, value in head.items()}},
        "records": logged.records,
    }


if __name__ == "__main__":
    processes.join("cpu")
    torch.save({name: trained(name) for name in sys.argv[2:]}, Path(sys.argv[1]) / f"{processes.rank()}.pt")
