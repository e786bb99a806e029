"""The shared recipe: a configuration as TRL's options."""

from __future__ import annotations

from pathlib import Path

from trl import GRPOConfig

from progrpo_cli.config.schema import Config

CHECKPOINTS_KEPT = 2


def grpo_config(config: Config, output: Path, device: str) -> GRPOConfig:
    """TRL's options for a run whose checkpoints go to ``output``, on ``device`` (cpu or cuda)."""
    train, method = config.train, config.method
    rollout = train.prompts_per_rollout * train.group_size
    micro_batch = min(train.micro_batch_size, rollout)
    return GRPOConfig(
        output_dir=str(output),
        seed=config.seed,
        # Rollouts
        num_generations=train.group_size,
        max_completion_length=config.task.max_new_tokens,
        temperature=train.temperature,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rollout // micro_batch,
        num_iterations=train.updates_per_rollout,
        shuffle_dataset=False,  # `rollout_prompts` has the order
        remove_unused_columns=False,
        # The shared recipe: token-level normalised clipped surrogate, group-relative advantage, no KL
        loss_type="dapo",
        scale_rewards="group",
        epsilon=method.clip_low,
        epsilon_high=method.clip_high,
        beta=0.0,
        # Optimisation
        max_steps=train.steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        optim="adamw_torch",
        # Precision and device: bfloat16 arithmetic only on a GPU, where the configuration asks for it
        use_cpu=device == "cpu",
        bf16=device == "cuda" and config.model.dtype == "bfloat16",
        gradient_checkpointing=False,
        # Ours, not the Trainer's: logging, checkpoints' moments
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        save_total_limit=CHECKPOINTS_KEPT,
    )
