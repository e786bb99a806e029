"""`progrpo` on recorded rollouts: `python progrpo_recorded.py train ...`. Environment variables:

ROLLOUTS=FILE   replay the rollouts in the file; if it does not exist, sample and record them there
DUMP=DIRECTORY  when training ends, each process writes the weights before each update and the micro-batches of its loss
FAIL_IN=RANK    the reward function of that process raises an exception at the second rollout
"""

import json
import os
from pathlib import Path

import torch
from transformers import TrainerCallback

from progrpo_cli import processes
from progrpo_cli.main import run
from progrpo_cli.training.trainer import LabTrainer

sample, compute_loss, train, score = (
    LabTrainer._generate_single_turn,
    LabTrainer._compute_loss,
    LabTrainer.train,
    LabTrainer._calculate_rewards,
)
ROLLOUTS = Path(os.environ.get("ROLLOUTS", ""))
RECORDED = [json.loads(line) for line in ROLLOUTS.read_text().splitlines()] if ROLLOUTS.is_file() else None
used = 0


def sample_or_replay(self, prompt_ids, images, multimodal_fields, num_generations, **kwargs):
    global used
    if RECORDED is None:
        completions, logprobs = sample(self, prompt_ids, images, multimodal_fields, num_generations, **kwargs)
        with ROLLOUTS.open("a") as file:
            rows = zip(prompt_ids, completions, strict=True)
            file.write(json.dumps([[list(prompt), list(completion)] for prompt, completion in rows]) + "\n")
        return completions, logprobs
    start = processes.rank() * len(prompt_ids)
    rows = RECORDED[used][start : start + len(prompt_ids)]
    used += 1
    assert [prompt for prompt, _ in rows] == [list(ids) for ids in prompt_ids], "recorded for other prompts"
    return [completion for _, completion in rows], None


class UpdateRecorder(TrainerCallback):
    def __init__(self, trainer):
        self.trainer = trainer
        self.updates = []

    def on_step_begin(self, args, state, control, **kwargs):
        weights = {name: value.clone() for name, value in self.trainer.model.state_dict().items()}
        self.updates.append({"weights": weights, "micro_batches": []})


def compute_loss_and_dump(self, model, inputs):
    self.dump.updates[-1]["micro_batches"].append({name: value.clone() for name, value in inputs.items()})
    return compute_loss(self, model, inputs)


def train_and_dump(self, **kwargs):
    self.dump = UpdateRecorder(self)
    self.add_callback(self.dump)
    result = train(self, **kwargs)
    torch.save(self.dump.updates, Path(os.environ["DUMP"]) / f"{processes.rank()}.pt")
    return result


def score_or_fail(self, *args, **kwargs):
    if self.state.global_step and processes.rank() == int(os.environ["FAIL_IN"]):
        raise ZeroDivisionError("nobody can score this")
    return score(self, *args, **kwargs)


if "ROLLOUTS" in os.environ:
    LabTrainer._generate_single_turn = sample_or_replay
if "DUMP" in os.environ:
    LabTrainer._compute_loss = compute_loss_and_dump
    LabTrainer.train = train_and_dump
if "FAIL_IN" in os.environ:
    LabTrainer._calculate_rewards = score_or_fail
run()
