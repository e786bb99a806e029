"""The typed configuration: type, range and meaning of every key that Hydra composes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from progrpo_cli.catalogue import Catalogue
from progrpo_cli.methods.base import Method
from progrpo_cli.methods.registry import METHODS
from progrpo_cli.section import Fraction, Mark, Natural, NonNegativeFloat, Positive, PositiveFloat, Section
from progrpo_cli.tasks.config import TaskConfig, kind_of
from progrpo_cli.tasks.registry import KINDS_OF_TASKS

SHIPPED_CODE_ONLY = {"shipped_code_only": True}
"""Validation context in which no method or kind of task of another installed package is imported."""


class UnreadMethod(Method):
    """A method of another package whose code was not imported. Only the fields of all methods were checked."""

    model_config = ConfigDict(extra="allow")


class UnreadTask(TaskConfig):
    """A task of another package whose code was not imported. Only the fields of all tasks were checked."""

    model_config = ConfigDict(extra="allow")


def _method(section: Any, info: ValidationInfo) -> Any:
    """Validate the section with the class of its ``name``."""
    return _read(section, section.get("name") if isinstance(section, dict) else None, METHODS, UnreadMethod, info)


def _task(section: Any, info: ValidationInfo) -> Any:
    """Validate the section with the class of its ``kind``."""
    return _read(section, kind_of(section) if isinstance(section, dict) else None, KINDS_OF_TASKS, UnreadTask, info)


def _read(section: Any, name: object, catalogue: Catalogue[Any], unread: type[Section], info: ValidationInfo) -> Any:
    if not isinstance(name, str):
        return section  # it is validated already, or pydantic will report the error
    if info.context == SHIPPED_CODE_ONLY and not catalogue.is_shipped(name):
        return unread.model_validate(section)
    return catalogue.find(name).model_validate(section)


class LoraConfig(Section):
    """Low-rank adapters (arXiv 2106.09685). Only they are trained, and they are merged into the saved policy."""

    rank: Positive
    alpha: Positive = 32
    """The update of a matrix is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Above 0, the dropout noise makes the importance ratio differ from 1 even on-policy."""
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Last parts of the adapted layers' names, e.g. `[q_proj, v_proj]`; null: every linear layer but the head."""


class ModelConfig(Section):
    """The policy that training starts from."""

    name: Annotated[str, Mark.UNHASHED]
    path: Annotated[str, Field(min_length=1)]
    """A model directory, a hub name (`owner/name`), `progrpo/lab-base` (the shipped policy), or
    `progrpo/smollm2-135m` (the extra `smollm`)."""
    dtype: Literal["float32", "bfloat16"]
    """Precision of training on a GPU and of evaluation; trained weights are kept in single precision."""
    lora: LoraConfig | None = None
    """null: all weights are trained."""
    trust_remote_code: bool = False
    """Run the Python files that come with the model, with all permissions of the user."""
    stop_tokens: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Additional tokens, as text, that end a completion, e.g. `["<|im_end|>"]`. Those of the policy's
    `generation_config`, tokenizer and chat template are used anyway."""


class GenerationConfig(Section):
    """How rollouts are sampled."""

    backend: Literal["hf", "vllm"] = "hf"
    """transformers' generate, or vLLM (the extra `vllm`)."""
    mode: Literal["colocate", "server"] = "colocate"
    """Where vLLM runs: in the training process and on its device, or as a separate `vllm serve`."""
    server_url: Annotated[str, Mark.UNHASHED] = "http://127.0.0.1:8000"
    server_sync_port: Annotated[int, Field(ge=1, le=65535), Mark.UNHASHED] = 51216
    """A free port of this machine for sending weights to the server; each training run needs its own."""
    gpu_memory_utilization: Annotated[Fraction, Mark.UNHASHED] = 0.3
    """Share of the device's memory for a colocated vLLM's copy of the weights and its cache."""

    @field_validator("server_url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^/\s@]+", url):
            raise ValueError("a URL such as http://127.0.0.1:8000 is needed, without a user or password")
        return url

    @model_validator(mode="after")
    def _server_needs_vllm(self) -> GenerationConfig:
        if self.mode == "server" and self.backend != "vllm":
            raise ValueError("mode=server needs train.generation.backend=vllm")
        return self


class RewardsConfig(Section):
    """The weights of the reward functions; a weight of 0 leaves the function out."""

    correctness: NonNegativeFloat = 1.0
    """1 for a verdict `correct`, else 0."""
    format: NonNegativeFloat = 0.0
    """1 if an answer can be extracted from the completion (verdict `correct` or `wrong`), else 0."""


class HealthConfig(Section):
    """When a run logs a warning, once for each. Numbers of updates are consecutive. No paper gives the thresholds."""

    entropy_floor: NonNegativeFloat = 0.02
    """In nats."""
    entropy_updates: Positive = 10
    """Updates with an entropy below the floor."""
    no_variance_updates: Positive = 1
    """Updates on rollouts in which no group has variance in its rewards."""
    truncated_updates: Positive = 1
    """Updates on rollouts whose completions are all truncated."""
    truncated_share: Fraction = 0.5
    """Share of truncated completions above which a warning is logged."""


class TrainConfig(Section):
    """Rollouts and optimisation."""

    steps: Positive
    """Optimiser updates."""
    prompts_per_rollout: Positive
    group_size: Annotated[int, Field(ge=2)]
    """G: completions sampled for each prompt of a rollout."""
    updates_per_rollout: Positive
    """Optimiser updates on each rollout, each over the whole rollout (mu of GRPO); from the second on, the importance
    ratio differs from 1."""
    micro_batch_size: Positive
    """Completions in one forward and backward pass; gradients are accumulated over the rollout."""
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    max_grad_norm: PositiveFloat
    temperature: PositiveFloat
    """Sampling temperature; log-probabilities and entropies are at this temperature too."""
    rewards: RewardsConfig = RewardsConfig()
    correctness_reward: Literal["correctness", "format"] = "correctness"
    """The reward function that decides what is correct. ARM's gate and Pass@k use it alone, never the weighted sum."""
    eval_every: Annotated[Natural, Mark.UNHASHED]
    """Updates between evaluations of Pass@k on the validation split during training; 0: never."""
    save_every: Annotated[Positive, Mark.UNHASHED]
    """Updates between checkpoints, which are written at the next rollout boundary."""
    gradient_checkpointing: Annotated[bool, Mark.UNHASHED] = False
    """Recompute activations in the backward pass instead of storing them: less memory, the same numbers."""
    keep_checkpoints: Annotated[Positive, Mark.UNHASHED] = 2
    """How many checkpoints to keep. Older ones are deleted once a newer one is on disk."""
    keep_completions: Annotated[Natural, Mark.UNHASHED] = 2
    """How many of the newest rollouts to keep as tables in the run's `completions/`; 0: none."""
    health: Annotated[HealthConfig, Mark.UNHASHED] = HealthConfig()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _correctness_reward_has_a_weight(self) -> TrainConfig:
        if not getattr(self.rewards, self.correctness_reward):
            raise ValueError(f"correctness_reward is {self.correctness_reward}, whose weight in rewards is 0")
        return self

    @model_validator(mode="after")
    def _micro_batches_fill_a_rollout(self) -> TrainConfig:
        rollout = self.prompts_per_rollout * self.group_size
        if rollout % min(self.micro_batch_size, rollout):
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide a rollout of "
                f"{self.prompts_per_rollout} x {self.group_size} = {rollout} completions"
            )
        return self


class WandbConfig(Section):
    """Tracking with Weights & Biases."""

    mode: Literal["offline", "online", "disabled"] | None
    """null: the value of WANDB_MODE, or offline if it is not set."""
    project: Annotated[str, Field(min_length=1)]
    entity: str | None
    tags: list[str]
    log_samples: bool
    """Log the evaluations' samples to W&B too."""


class TrackingConfig(Section):
    """Trackers. The run directory holds everything without them."""

    wandb: WandbConfig
    completions: bool = False
    """Write TRL's table of completions to `checkpoints/completions/` after each update. With ARM it has c(q), c(o|q),
    A and A~ of each sample."""


class Config(Section):
    """The complete configuration of one run."""

    experiment: Annotated[str, Mark.UNHASHED]
    method: Annotated[SerializeAsAny[Method], BeforeValidator(_method)]
    task: Annotated[SerializeAsAny[TaskConfig], BeforeValidator(_task)]
    model: ModelConfig
    train: TrainConfig
    seed: Annotated[int, Field(ge=0, lt=2**32), Mark.UNHASHED]
    device: Annotated[Literal["auto", "cpu", "cuda"], Mark.UNHASHED]
    tracking: Annotated[TrackingConfig, Mark.UNHASHED]

    @model_validator(mode="after")
    def _method_fits(self) -> Config:
        misfit = self.method.misfit(group_size=self.train.group_size, max_new_tokens=self.task.max_new_tokens)
        if misfit:
            raise ValueError(misfit)
        if self.method.arm is not None and not self.method.takes_arm:
            raise ValueError(f"method {self.method.name} does not take ARM")
        return self
