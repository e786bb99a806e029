"""Replays a recorded rollout through the real trainer: TRL's ``rollout_func`` returns it, and the rest is TRL's code.

There are three different policies, as after some updates: the base, which training started from; the sampler, which has
the old log-probabilities; and the current policy, whose loss is computed.
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
SamplerLogps = Callable[[str, list[float]], list[float | None]]
"""(text of a completion, its log-probabilities under the sampler) -> the log-probabilities that vLLM would return."""
MIXED_IN_FIRST = 2  # groups of the first rollout with right and wrong completions


class RecordingTrainer(LabTrainer):
    """Records the log-probabilities that enter the loss, with their gradient."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_logps: list[torch.Tensor] = []

    def _make_loss_terms(self, inputs, logps):
        logps.retain_grad()
        self.loss_logps.append(logps)
        return super()._make_loss_terms(inputs, logps)


@dataclass
class Row:
    """One completion of the rollout to train on, in plain numbers."""

    prompt: str
    text: str
    correct: bool
    truncated: bool
    base: list[float]
    """log p of each token under the policy that training started from."""
    old: list[float]
    """log p of each token under the policy that sampled."""
    logps: list[float]
    """log p of each token under the current policy."""
    entropy: list[float]
    advantage: float
    """The advantage at the start of the trainer's loss."""
    gradient: list[float]
    """Gradient of the trainer's loss by ``logps``."""


@dataclass
class Replayed:
    """The recorded rollout with a method's advantages, loss and gradient."""

    config: Config
    trainer: RecordingTrainer
    policies: dict[str, torch.nn.Module]
    output: dict
    loss: float
    rows: list[Row]

    @property
    def gradient(self) -> torch.Tensor:
        """Gradient of the loss by all trained weights, flat."""
        return torch.cat([p.grad.flatten() for p in self.trainer.model.parameters() if p.requires_grad])


@cache
def _composed() -> dict:
    return compose([f"train.prompts_per_rollout={GROUPS}", f"train.group_size={SIZE}", "device=cpu"]).model_dump()


def make_config(*overrides: str) -> Config:
    """The lab's configuration with four groups of four and the method's YAML. Hydra runs once, because it is slow."""
    settings = copy.deepcopy(_composed())
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "method":
            settings["method"] = yaml.safe_load((paths.EXPERIMENTS / "method" / f"{value}.yaml").read_text())
            continue
        section = settings
        *parents, last = key.split(".")
        for parent in parents:
            section[parent] = section[parent] or {}  # `arm: null` in the method's YAML
            section = section[parent]
        section[last] = yaml.safe_load(value)
    return validate(settings)


def make_trainer(directory: Path, *overrides: str, refill: list[str] | None = None) -> tuple[Config, RecordingTrainer]:
    """The trainer of ``progrpo train`` on a recorded rollout of four groups of four.

    ``refill`` are the prompts that dynamic sampling draws, by default those of the second recorded rollout.
    """
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    config = make_config(*overrides)
    task = make_task(config.task)
    problems = task.problems("rl")
    number = {problem.prompt: index for index, problem in enumerate(problems)}
    first, more = (
        [{"prompt": prompt, "problem": number[prompt]} for prompt in prompts]
        for prompts in (RECORDED["first"], refill or RECORDED["second"])
    )
    model, tokenizer = policy.load(policy.resolve(config.model.path), "float32", "cpu", chat=False)

    def recorded_rollout(prompts, trainer):
        used: Counter[str] = Counter()
        ids = []
        for prompt in prompts:
            text = {**RECORDED["first"], **RECORDED["second"]}[prompt][used[prompt] % SIZE]
            used[prompt] += 1
            end = [] if text in RECORDED["truncated"] else [tokenizer.eos_token_id]
            ids.append(tokenizer(text, add_special_tokens=False)["input_ids"] + end)
        return {"prompt_ids": tokenizer(prompts)["input_ids"], "completion_ids": ids, "logprobs": None}

    trainer = RecordingTrainer(
        method=config.method,
        correctness=config.train.correctness_reward,
        refill_prompts=lambda updates, number: more,
        rollout_func=recorded_rollout,
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward_functions(config, task, problems, [tokenizer.eos_token_id]),
        args=grpo_config(config, directory, "cpu"),
        train_dataset=Dataset.from_list(first),
        peft_config=lora_config(config.model.lora, model),
    )
    trainer.model.train()
    return config, trainer


def use_vllm_logps(trainer: RecordingTrainer, sampler: torch.nn.Module, sampler_logps: SamplerLogps) -> None:
    """Make the trainer believe that a vLLM with the current weights sampled the recorded rollout.

    The rollout gets log-probabilities from ``sampler_logps``; TRL's own code corrects for them. No engine is needed.
    """
    recorded_rollout, decode = trainer.rollout_func, trainer.processing_class.decode

    def with_logprobs(prompts, trainer):
        output = recorded_rollout(prompts, trainer)
        output["logprobs"] = [
            sampler_logps(
                decode(ids, skip_special_tokens=True), scores(sampler, torch.tensor(prompt), torch.tensor(ids))[0]
            )
            for prompt, ids in zip(output["prompt_ids"], output["completion_ids"], strict=True)
        ]
        return output

    trainer.rollout_func = with_logprobs
    trainer.use_vllm, trainer._last_loaded_step = True, trainer.state.global_step


def sample(trainer: RecordingTrainer) -> dict:
    """The first recorded rollout, scored by the trainer."""
    rows = [row for row in trainer.train_dataset for _ in range(SIZE)]
    return trainer._generate_and_score_completions(rows)


def perturb(model: torch.nn.Module, seed: int, scale: float = 0.12) -> None:
    """Move each trained weight a little, as some updates would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            size = parameter.std() or 0.1  # half of LoRA's matrices start at 0
            parameter.add_(scale * size * torch.randn(parameter.shape, generator=generator))


def replay(directory: Path, *overrides: str, sampler_logps: SamplerLogps | None = None) -> Replayed:
    """Sample, perturb the policy, and compute the loss and its gradient.

    With ``sampler_logps``, vLLM has sampled and returned these log-probabilities.
    """
    config, trainer = make_trainer(directory, *overrides)
    policies = {"base": copy_policy(trainer.model)}
    perturb(trainer.model, seed=1)
    policies["sampler"] = copy_policy(trainer.model)
    if sampler_logps is not None:
        use_vllm_logps(trainer, policies["sampler"], sampler_logps)
    output = sample(trainer)
    perturb(trainer.model, seed=2)
    policies["current"] = copy_policy(trainer.model)
    loss = 0.0
    parts = split_tensor_dict(output, GROUPS * SIZE // trainer.args.per_device_train_batch_size)
    trainer.current_gradient_accumulation_steps = len(parts)
    for part in parts:
        part_loss = trainer._compute_loss(trainer.model, part)
        part_loss.backward()
        loss += part_loss.item()
    gradient = torch.cat([logps.grad for logps in trainer.loss_logps])
    rows = [_row(trainer, output, index, policies, gradient[index]) for index in range(GROUPS * SIZE)]
    return Replayed(config, trainer, policies, output, loss, rows)


def copy_policy(model: torch.nn.Module) -> torch.nn.Module:
    """A separate policy with the current weights. `deepcopy` alone would call ``model``, whose forward TRL patches."""
    other, _ = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    if is_peft_model(model):
        model = copy.deepcopy(model).merge_and_unload()
    other.load_state_dict(model.state_dict())
    return other.eval()


def _row(
    trainer: RecordingTrainer, output: dict, index: int, policies: dict[str, torch.nn.Module], gradient: torch.Tensor
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
    """Whether Python's arithmetic accepts an expression, or the last try after ``sum:`` or ``product:``."""
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


# Python's own arithmetic on this fixture decides which texts are right, not the task's parser.
RIGHT = {
    text
    for rollout in ("first", "second")
    for prompt, texts in RECORDED[rollout].items()
    for text in texts
    if is_right(prompt, text)
}
