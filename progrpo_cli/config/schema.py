"""The typed configuration. Every key that Hydra composes has its type, range and meaning here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    """Unknown keys are refused, nothing is converted (``"3"`` is no integer), nothing changes after composition."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class ArmConfig(_Section):
    """ARM, the advantage re-weighting of ProGRPO (arXiv 2602.05281): what the paper leaves open is an option here."""

    alpha: Finite
    """Strength of the shift. No value is published in the sources we hold: ours, and what `progrpo sweep` is for."""
    low_fraction: Fraction
    """rho: the answer confidence is taken over the ceil(rho * length) least likely tokens of a completion."""
    prompt_low_fraction: Fraction
    """The same for the prompt confidence; 1.0 takes every prompt token but the first."""
    gate: Literal["any_correct", "mixed"]
    """Groups whose advantages are shifted: at least one right (the formula), or right AND wrong ones in it."""
    scope: Literal["all", "correct"]
    """Samples that are shifted inside such a group."""


class MethodConfig(_Section):
    """A method: the shared recipe (token-level clipped surrogate, no KL) and what the method changes of it."""

    name: str
    clip_low: Annotated[float, Field(gt=0.0, lt=1.0)]
    """The ratio is clipped below at 1 - clip_low."""
    clip_high: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """The ratio is clipped above at 1 + clip_high."""
    arm: ArmConfig | None
    """ARM on top of the group-relative advantage; null: none."""


class TaskConfig(_Section):
    """Problems, their verdicts, and how many of each split are used."""

    name: Literal["countdown"]
    prompt: Literal["plain", "chat"]
    """`plain` text that the policy continues, or a question through the tokenizer's `chat` template."""
    max_new_tokens: Positive
    """Completion limit in tokens, the end-of-sequence token included; a longer completion is `truncated`."""
    rl_problems: Positive | None
    """Problems for training; null: the whole split."""
    validation_problems: Positive | None
    test_problems: Positive | None


class ModelConfig(_Section):
    """The policy that training starts from."""

    name: str
    path: Annotated[str, Field(min_length=1)]
    """A model directory, a hub name (`owner/name`), or `progrpo/lab-base`, the policy that the package ships."""
    dtype: Literal["float32", "bfloat16"]
    """Precision of the arithmetic on a GPU and of evaluation; trained weights are kept in single precision."""


class TrainConfig(_Section):
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
    learning_rate: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    max_grad_norm: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    temperature: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    """Sampling temperature; log-probabilities and entropies are at this temperature too."""
    eval_every: Natural
    """Updates between held-out Pass@k on the validation split while training; 0: never."""
    save_every: Positive
    """Updates between checkpoints, which are written at the next rollout boundary."""

    @model_validator(mode="after")
    def _micro_batches_fill_a_rollout(self) -> TrainConfig:
        rollout = self.prompts_per_rollout * self.group_size
        if rollout % min(self.micro_batch_size, rollout):
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide a rollout of "
                f"{self.prompts_per_rollout} x {self.group_size} = {rollout} completions"
            )
        return self


class WandbConfig(_Section):
    """Where runs are tracked besides their own directory."""

    mode: Literal["offline", "online", "disabled"] | None
    """null: what WANDB_MODE says, else offline."""
    project: Annotated[str, Field(min_length=1)]
    entity: str | None
    tags: list[str]
    log_samples: bool
    """Send the evaluations' samples to W&B too."""


class TrackingConfig(_Section):
    """Trackers; a run directory holds everything without any."""

    wandb: WandbConfig


class Config(_Section):
    """One run, completely."""

    experiment: str
    method: MethodConfig
    task: TaskConfig
    model: ModelConfig
    train: TrainConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    device: Literal["auto", "cpu", "cuda"]
    tracking: TrackingConfig
