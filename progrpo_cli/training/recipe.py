"""The shared recipe: translates a configuration into TRL's options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trl import GRPOConfig

from progrpo_cli import processes
from progrpo_cli.config.schema import Config, GenerationConfig
from progrpo_cli.training.batches import micro_batches
from progrpo_cli.training.data import reward_weights

NO_CLIP = 1e9  # a ratio that no update reaches; TRL cannot switch the clip off


def grpo_config(
    config: Config, output: Path, device: str, *, longest_prompt: int | None = None, ends: Sequence[int] = ()
) -> GRPOConfig:
    """TRL's options for a run.

    Args:
        config: the run's configuration.
        output: directory of the checkpoints.
        device: cpu or cuda.
        longest_prompt: tokens of the run's longest prompt, which sets the longest sequence of a colocated vLLM. None
            means the model's maximum, which may need more memory than vLLM is given.
        ends: the tokens at which vLLM stops, even if the model's files do not name them.
    """
    train, method = config.train, config.method
    micro_batch, accumulated = micro_batches(config, processes.world())
    longest_sequence = None if longest_prompt is None else longest_prompt + config.task.max_new_tokens
    shared: dict[str, Any] = {
        # Rollouts
        "num_generations": train.group_size,
        "max_completion_length": config.task.max_new_tokens,
        "temperature": train.temperature,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulated,
        "num_iterations": train.updates_per_rollout,
        "shuffle_dataset": False,  # `rollout_prompts` sets the order
        "remove_unused_columns": False,
        # The shared recipe: token-level normalised clipped surrogate, group-relative advantage, no KL term
        "loss_type": "dapo",
        "scale_rewards": "group",
        "epsilon": 1.0 if method.clip_low is None else method.clip_low,
        "epsilon_high": NO_CLIP if method.clip_high is None else method.clip_high,
        "beta": 0.0,
        "reward_weights": list(reward_weights(config).values()),
        "ddp_find_unused_parameters": False,  # every weight is used in every loss
        # Optimisation
        "max_steps": train.steps,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "optim": "adamw_torch",
        # Precision and device: bfloat16 arithmetic only on a GPU and if the configuration asks for it
        "use_cpu": device == "cpu",
        "bf16": device == "cuda" and config.model.dtype == "bfloat16",
        "gradient_checkpointing": train.gradient_checkpointing,
        "trust_remote_code": config.model.trust_remote_code,  # for a colocated vLLM
        # Logging and checkpoints are done by our callbacks
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "log_completions": config.tracking.completions,
        "num_completions_to_print": 0,  # stdout belongs to the command's result
        "disable_tqdm": True,
        "save_strategy": "no",
        **_generation_options(train.generation, longest_sequence, ends),
    }
    return GRPOConfig(output_dir=str(output), seed=config.seed, **{**shared, **method.trl_options()})


def _generation_options(
    generation: GenerationConfig, longest_sequence: int | None, ends: Sequence[int]
) -> dict[str, Any]:
    """TRL's options for sampling."""
    if generation.backend == "hf":
        return {"use_vllm": False}
    return {
        "use_vllm": True,
        "vllm_mode": generation.mode,
        # vLLM's arithmetic differs from torch's: TRL scores each rollout itself and weights it by the ratio of the two.
        "vllm_importance_sampling_correction": True,
        "vllm_server_base_url": generation.server_url,
        "vllm_group_port": generation.server_sync_port,
        "vllm_gpu_memory_utilization": generation.gpu_memory_utilization,
        "vllm_max_model_length": longest_sequence,
        "generation_kwargs": {"stop_token_ids": list(ends)},
    }
