"""A recorded rollout through the real trainer: TRL's ``rollout_func`` hands out what was recorded, the rest is TRL's.

Three policies that differ, as after some updates: the base, which training started from; the one that sampled, whose
log-probabilities are the old ones; and the current one, which the loss is taken of.
"""

import copy
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import yaml
from accelerate.utils import is_peft_model
from datasets import Dataset
from trl.trainer.utils import split_tensor_dict

from progrpo_cli.config import paths
from progrpo_cli.config.compose import compose, validate
from progrpo_cli.config.schema import Config
from progrpo_cli.policies import policy
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.training.adapters import lora_config
from progrpo_cli.training.data import reward_functions
from progrpo_cli.training.recipe import grpo_config
from progrpo_cli.training.trainer import LabTrainer

RECORDED = json.loads((Path(__file__).parent / "recorded_rollouts.json").read_text())
GROUPS = SIZE = 4
LIMIT = 30  # task.max_new_tokens
Told = Callable[[str, list[float]], list[float | None]]
MIXED_AT_FIRST = 2  # groups of the first rollout that are right and wrong


class Watched(LabTrainer):
    """Keeps the log-probabilities that the loss is taken of, and their gradient."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen: list[torch.Tensor] = []

    def _make_loss_terms(self, inputs, logps):
        logps.retain_grad()
        self.seen.append(logps)
        return super()._make_loss_terms(inputs, logps)


@dataclass
class Row:
    """One completion of the rollout that was trained on, in plain numbers."""

    prompt: str
    text: str
    correct: bool
    truncated: bool
    base: list[float]
    """log p of each token under the policy that training started from."""
    old: list[float]
    """Under the one that sampled."""
    logps: list[float]
    """Under the current one."""
    entropy: list[float]
    advantage: float
    """What the rollout carries into the trainer's loss."""
    gradient: list[float]
    """Of the trainer's loss by ``logps``."""


@dataclass
class Replayed:
    """What a method made of the recorded rollout."""

    config: Config
    trainer: Watched
    policies: dict[str, torch.nn.Module]
    output: dict
    loss: float
    rows: list[Row]

    @property
    def gradient(self) -> torch.Tensor:
        """Of the loss by all weights that are trained, flat."""
        return torch.cat([p.grad.flatten() for p in self.trainer.model.parameters() if p.requires_grad])


@cache
def _composed() -> dict:
    return compose([f"train.prompts_per_rollout={GROUPS}", f"train.group_size={SIZE}", "device=cpu"]).model_dump()


def configured(*overrides: str) -> Config:
    """The lab on four groups of four, with the method's YAML; Hydra composes once, which takes most of a second."""
    settings = copy.deepcopy(_composed())
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "method":
            settings["method"] = yaml.safe_load((paths.EXPERIMENTS / "method" / f"{value}.yaml").read_text())
            continue
        section = settings
        *parents, last = key.split(".")
        for parent in parents:
            section[parent] = section[parent] or {}  # ARM where the method's YAML has none
            section = section[parent]
        section[last] = yaml.safe_load(value)
    return validate(settings)


def lab(directory: Path, *overrides: str, refill: list[str] | None = None) -> tuple[Config, Watched]:
    """The trainer as ``progrpo train`` makes it, on a recorded rollout of four groups of four.

    ``refill``: the prompts that dynamic sampling draws; by default those of the second recorded rollout.
    """
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    config = configured(*overrides)
    task = make_task(config.task)
    problems = task.problems("rl")
    number = {problem.prompt: index for index, problem in enumerate(problems)}
    first, more = (
        [{"prompt": prompt, "problem": number[prompt]} for prompt in prompts]
        for prompts in (RECORDED["first"], refill or RECORDED["second"])
    )
    model, tokenizer = policy.load(policy.resolve(config.model.path), "float32", "cpu", chat=False)

    def recorded(prompts, trainer):
        handed_out: Counter[str] = Counter()
        ids = []
        for prompt in prompts:
            text = {**RECORDED["first"], **RECORDED["second"]}[prompt][handed_out[prompt] % SIZE]
            handed_out[prompt] += 1
            end = [] if text in RECORDED["truncated"] else [tokenizer.eos_token_id]
            ids.append(tokenizer(text, add_special_tokens=False)["input_ids"] + end)
        return {"prompt_ids": tokenizer(prompts)["input_ids"], "completion_ids": ids, "logprobs": None}

    trainer = Watched(
        method=config.method,
        correctness=config.train.correctness_reward,
        refill_prompts=lambda updates, number: more,
        rollout_func=recorded,
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward_functions(config, task, problems, [tokenizer.eos_token_id]),
        args=grpo_config(config, directory, "cpu"),
        train_dataset=Dataset.from_list(first),
        peft_config=lora_config(config.model.lora, model),
    )
    trainer.model.train()
    return config, trainer


def sampled_by_vllm(trainer: Watched, sampler: torch.nn.Module, told: Told) -> None:
    """From now on the recorded rollout comes with log-probabilities, as from a vLLM that has the current weights.

    The correction for them is TRL's own. An engine is not needed: it would only be asked for what is recorded.
    """
    recorded, decode = trainer.rollout_func, trainer.processing_class.decode

    def with_logprobs(prompts, trainer):
        output = recorded(prompts, trainer)
        output["logprobs"] = [
            told(decode(ids, skip_special_tokens=True), scores(sampler, torch.tensor(prompt), torch.tensor(ids))[0])
            for prompt, ids in zip(output["prompt_ids"], output["completion_ids"], strict=True)
        ]
        return output

    trainer.rollout_func = with_logprobs
    trainer.use_vllm, trainer._last_loaded_step = True, trainer.state.global_step


def sample(trainer: Watched) -> dict:
    """The first recorded rollout, scored by the trainer."""
    rows = [row for row in trainer.train_dataset for _ in range(SIZE)]
    return trainer._generate_and_score_completions(rows)


def drift(model: torch.nn.Module, seed: int, scale: float = 0.12) -> None:
    """Move every weight that is trained a little: the model of some updates later."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            size = parameter.std() or 0.1  # half of LoRA's matrices begin at 0
            parameter.add_(scale * size * torch.randn(parameter.shape, generator=generator))


def replay(directory: Path, *overrides: str, told: Told | None = None) -> Replayed:
    """Sample, drift, and take the loss and its gradient.

    ``told``: what a vLLM that samples says of a completion's tokens, from its text and its log-probabilities.
    """
    config, trainer = lab(directory, *overrides)
    policies = {"base": frozen(trainer.model)}
    drift(trainer.model, seed=1)
    policies["sampler"] = frozen(trainer.model)
    if told is not None:
        sampled_by_vllm(trainer, policies["sampler"], told)
    output = sample(trainer)
    drift(trainer.model, seed=2)
    policies["current"] = frozen(trainer.model)
    loss = 0.0
    parts = split_tensor_dict(output, GROUPS * SIZE // trainer.args.per_device_train_batch_size)
    trainer.current_gradient_accumulation_steps = len(parts)
    for part in parts:
        of_part = trainer._compute_loss(trainer.model, part)
        of_part.backward()
        loss += of_part.item()
    gradient = torch.cat([logps.grad for logps in trainer.seen])
    rows = [_row(trainer, output, index, policies, gradient[index]) for index in range(GROUPS * SIZE)]
    return Replayed(config, trainer, policies, output, loss, rows)


def frozen(model: torch.nn.Module) -> torch.nn.Module:
    """A policy of its own with the weights of now; a copy of ``model`` would still call it: TRL patches its forward."""
    other, _ = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    if is_peft_model(model):
        model = copy.deepcopy(model).merge_and_unload()
    other.load_state_dict(model.state_dict())
    return other.eval()


def _row(
    trainer: Watched, output: dict, index: int, policies: dict[str, torch.nn.Module], gradient: torch.Tensor
) -> Row:
    prompt = output["prompt_ids"][index][output["prompt_mask"][index].bool()]
    completion = output["completion_ids"][index][output["completion_mask"][index].bool()]
    decode = trainer.processing_class.decode
    text = decode(completion, skip_special_tokens=True)
    logps, entropy = scores(policies["current"], prompt, completion)
    return Row(
        prompt=decode(prompt, skip_special_tokens=True),
        text=text,
        correct=text in RIGHT,
        truncated=text in RECORDED["truncated"],
        base=scores(policies["base"], prompt, completion)[0],
        old=scores(policies["sampler"], prompt, completion)[0],
        logps=logps,
        entropy=entropy,
        advantage=output["advantages"][index].item(),
        gradient=gradient[: len(completion)].tolist(),
    )


def scores(model: torch.nn.Module, prompt: torch.Tensor, completion: torch.Tensor) -> tuple[list[float], list[float]]:
    """log p and the entropy at each completion token, from an unpadded forward pass of one row."""
    ids = torch.cat([prompt, completion])
    with torch.no_grad():
        logps = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)[len(prompt) - 1 : -1]
    entropy = -(logps.exp() * logps).sum(-1)
    return logps.gather(1, completion[:, None]).squeeze(1).tolist(), entropy.tolist()


def is_right(prompt: str, text: str) -> bool:
    """By Python's own arithmetic: an expression, or after ``sum:`` and ``product:`` the steps of the last try."""
    numbers, target = prompt.removesuffix(":").split("=")
    name, _, work = text.partition(":")
    if work and name in ("sum", "product"):
        *steps, _ = last = work.rpartition(";")[2].split("=")
        parts = [re.fullmatch(r"(-?\d+)([-+*])(\d+)", step) for step in steps]
        if not steps or not all(parts) or any("*" in step for step in steps) != (name == "product"):
            return False
        reached = [re.match(r"-?\d*", step)[0] for step in last[1:]]
        if [str(eval(step)) for step in steps] != reached:
            return False
        used = sorted([int(parts[0][1]), *(int(part[3]) for part in parts)])
        return used == sorted(map(int, numbers.split())) and reached[-1] == last[-1] == target
    used = sorted(int(part) for part in "".join(c if c.isdigit() else " " for c in text).split())
    try:
        return used == sorted(map(int, numbers.split())) and eval(text) == int(target)
    except SyntaxError:
        return False


# Python's own arithmetic on our own fixture decides what is right, not the task's parser.
RIGHT = {
    text
    for rollout in ("first", "second")
    for prompt, texts in RECORDED[rollout].items()
    for text in texts
    if is_right(prompt, text)
}
