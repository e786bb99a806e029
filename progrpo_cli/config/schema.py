"""The typed configuration. Every key that Hydra composes has its type, range and meaning here and nowhere else."""

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
"""Context of a validation that imports no method and no kind of task of another installed package."""


class UnreadMethod(Method):
    """A method of another package, of which only what every method has was checked: its code was not imported."""

    model_config = ConfigDict(extra="allow")


class UnreadTask(TaskConfig):
    """A task of another package, of which only what every task has was checked: its code was not imported."""

    model_config = ConfigDict(extra="allow")


def _method(section: Any, info: ValidationInfo) -> Any:
    """Each method's own class checks its section, chosen by the name."""
    return _read(section, section.get("name") if isinstance(section, dict) else None, METHODS, UnreadMethod, info)


def _task(section: Any, info: ValidationInfo) -> Any:
    """Each task's by its kind."""
    return _read(section, kind_of(section) if isinstance(section, dict) else None, KINDS_OF_TASKS, UnreadTask, info)


def _read(section: Any, name: object, catalogue: Catalogue[Any], unread: type[Section], info: ValidationInfo) -> Any:
    if not isinstance(name, str):
        return section  # it was read already, or pydantic says what is wrong with it
    if info.context == SHIPPED_CODE_ONLY and not catalogue.is_shipped(name):
        return unread.model_validate(section)
    return catalogue.find(name).model_validate(section)


class LoraConfig(Section):
    """Low-rank adapters (arXiv 2106.09685): they alone are trained, and the saved policy has them merged in."""

    rank: Positive
    alpha: Positive = 32
    """The update of a matrix is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Above 0 the ratio differs from 1 by the noise of the dropout even on-policy."""
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Last parts of the names of the adapted layers, e.g. `[q_proj, v_proj]`; null: every linear layer but the head."""


class ModelConfig(Section):
    """The policy that training starts from."""

    name: Annotated[str, Mark.UNHASHED]
    path: Annotated[str, Field(min_length=1)]
    """A model directory, a hub name (`owner/name`), `progrpo/lab-base`, the policy that the package ships, or
    `progrpo/smollm2-135m` (the extra `smollm`)."""
    dtype: Literal["float32", "bfloat16"]
    """Precision of the arithmetic on a GPU and of evaluation; trained weights are kept in single precision."""
    lora: LoraConfig | None = None
    """null: all weights are trained."""
    trust_remote_code: bool = False
    """Run the Python files that come with the model; they can do whatever you can."""
    stop_tokens: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Texts of tokens that end a completion besides the policy's own: those of its `generation_config`, its tokenizer's
    and its chat template's, e.g. `["<|im_end|>"]`."""


class GenerationConfig(Section):
    """Who samples the rollouts."""

    backend: Literal["hf", "vllm"] = "hf"
    """transformers' generate, or vLLM (the extra `vllm`)."""
    mode: Literal["colocate", "server"] = "colocate"
    """Of vLLM: inside the training process and on its device, or a `vllm serve` that runs already."""
    server_url: Annotated[str, Mark.UNHASHED] = "http://127.0.0.1:8000"
    server_sync_port: Annotated[int, Field(ge=1, le=65535), Mark.UNHASHED] = 51216
    """A free port of this machine through which the weights go to the server; one a training run."""
    gpu_memory_utilization: Annotated[Fraction, Mark.UNHASHED] = 0.3
    """Of a colocated vLLM: the share of the device's memory for its copy of the weights and its cache."""

    @field_validator("server_url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^/\s]+", url):
            raise ValueError("a URL such as http://127.0.0.1:8000 is needed")
        return url

    @model_validator(mode="after")
    def _servers_are_vllms(self) -> GenerationConfig:
        if self.mode == "server" and self.backend != "vllm":
            raise ValueError("mode=server is vLLM's: it needs train.generation.backend=vllm")
        return self


class RewardsConfig(Section):
    """The weights of the reward functions; a weight of 0 leaves the function out."""

    correctness: NonNegativeFloat = 1.0
    """1 for a verdict `correct`, else 0."""
    format: NonNegativeFloat = 0.0
    """1 for a completion that can be read as an answer (verdict `correct` or `wrong`), else 0: a bonus for the form."""


class HealthConfig(Section):
    """When a run says that it goes wrong, once each; all thresholds are ours. A number of updates is one in a row."""

    entropy_floor: NonNegativeFloat = 0.02
    """In nats."""
    entropy_updates: Positive = 10
    """Updates with an entropy below the floor."""
    no_variance_updates: Positive = 1
    """Updates on rollouts of which no group has variance in its rewards."""
    truncated_updates: Positive = 1
    """Updates on rollouts whose completions are all truncated."""
    truncated_share: Fraction = 0.5
    """Share of truncated completions above which it is said that there are many."""


class TrainConfig(Section):
    """Rollouts and optimisation."""

    steps: Positive
    """Optimiser updates."""
    prompts_per_rollout: Positive
    group_size: Annotated[int, Field(ge=2)]
    """G: completions sampled for each prompt of a rollout."""
    updates_per_rollout: Positive
    """Optimiser updates on each rollout, each over all of it (mu of GRPO); the ratio differs from 1 from the second."""
    micro_batch_size: Positive
    """Completions in one forward and backward pass; the rest of a rollout is gradient accumulation."""
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    max_grad_norm: PositiveFloat
    temperature: PositiveFloat
    """Sampling temperature; log-probabilities and entropies are at this temperature too."""
    rewards: RewardsConfig = RewardsConfig()
    correctness_reward: Literal["correctness", "format"] = "correctness"
    """The reward function that says what is right: ARM's gate and Pass@k look at it alone, never at the sum."""
    eval_every: Annotated[Natural, Mark.UNHASHED]
    """Updates between held-out Pass@k on the validation split while training; 0: never."""
    save_every: Annotated[Positive, Mark.UNHASHED]
    """Updates between checkpoints, which are written at the next rollout boundary."""
    gradient_checkpointing: Annotated[bool, Mark.UNHASHED] = False
    """Compute activations again in the backward pass instead of keeping them: less memory, the same numbers."""
    keep_checkpoints: Annotated[Positive, Mark.UNHASHED] = 2
    """Checkpoints that are kept, the newest ones; older ones are removed once a newer one is on the disk."""
    keep_completions: Annotated[Natural, Mark.UNHASHED] = 2
    """Rollouts whose samples are kept, the newest ones, a table each below `completions/` of the run; 0: none."""
    health: Annotated[HealthConfig, Mark.UNHASHED] = HealthConfig()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _somebody_says_what_is_right(self) -> TrainConfig:
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
    """Where runs are tracked besides their own directory."""

    mode: Literal["offline", "online", "disabled"] | None
    """null: what WANDB_MODE says, else offline."""
    project: Annotated[str, Field(min_length=1)]
    entity: str | None
    tags: list[str]
    log_samples: bool
    """Send the evaluations' samples to W&B too."""


class TrackingConfig(Section):
    """Trackers; a run directory holds everything without any."""

    wandb: WandbConfig
    completions: bool = False
    """Write TRL's table of completions after each update to `checkpoints/completions/`; with ARM it has c(q), c(o|q), A
    and A~ of each sample."""


class Config(Section):
    """One run, completely."""

    experiment: Annotated[str, Mark.UNHASHED]
    method: Annotated[SerializeAsAny[Method], BeforeValidator(_method)]
    task: Annotated[SerializeAsAny[TaskConfig], BeforeValidator(_task)]
    model: ModelConfig
    train: TrainConfig
    seed: Annotated[int, Field(ge=0, lt=2**32), Mark.UNHASHED]
    device: Annotated[Literal["auto", "cpu", "cuda"], Mark.UNHASHED]
    tracking: Annotated[TrackingConfig, Mark.UNHASHED]

    @model_validator(mode="after")
    def _the_method_fits(self) -> Config:
        misfit = self.method.misfit(group_size=self.train.group_size, max_new_tokens=self.task.max_new_tokens)
        if misfit:
            raise ValueError(misfit)
        if self.method.arm is not None and not self.method.takes_arm:
            raise ValueError(f"method {self.method.name} does not take ARM")
        return self
