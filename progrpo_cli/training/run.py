"""One training run in its run directory, from the base policy to the trained one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig

from progrpo_cli import policy
from progrpo_cli.config.schema import Config
from progrpo_cli.console import Progress, log, progress
from progrpo_cli.errors import Interrupted, RequestError, WorkError
from progrpo_cli.metrics.passk import pass_at_k
from progrpo_cli.records.provenance import now
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.sampling.base import derived_seed
from progrpo_cli.sampling.hf import HfSampler, as_chat
from progrpo_cli.tasks.base import Problem, Task
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.tracking.wandb_run import Tracker, tracker
from progrpo_cli.training.callbacks import CheckpointPolicy, MetricsWriter, SignalsStop
from progrpo_cli.training.trainer import LabTrainer

CHECKPOINTS_KEPT = 2


def train(config: Config, run: RunDirectory, *, study: str | None = None) -> None:
    """Train, or continue training, in a directory that the caller has locked and started.

    Raises:
        Interrupted: a signal ended the run at a rollout boundary; the same command continues.
        WorkError: training failed; the manifest says so, and what was computed stays.
    """
    resumed_at = _last_checkpoint(run.checkpoints)
    run.update(status="running", device=policy.choose_device(config.device), error=None, finished_at=None)
    if resumed_at:
        log.info(f"continuing {run.path} after update {resumed_at}")
        run.update(resumed_at=[*run.manifest()["resumed_at"], now()])
    try:
        with tracker(run, config, study=study) as tracked, progress(config.train.steps, run.name) as shown:
            finished, stop_requested = _train(config, run, resumed_at, tracked, shown)
    except KeyboardInterrupt:
        run.update(status="interrupted", finished_at=now())
        raise
    except RequestError:  # nothing was trained: the caller takes a new directory away again
        raise
    except Exception as error:
        run.update(status="failed", finished_at=now(), failed_at=now(), error=f"{type(error).__name__}: {error}")
        raise
    run.update(status="finished" if finished else "interrupted", finished_at=now())
    if not finished:
        raise Interrupted(f"interrupted; the same command with --resume continues {run.path}")
    if stop_requested:
        raise Interrupted(f"{run.path} was just finished when the interrupt came")


def _train(config: Config, run: RunDirectory, resumed_at: int, tracked: Tracker, shown: Progress) -> tuple[bool, bool]:
    """Whether the run is finished, and whether a signal asked to stop."""
    device = policy.choose_device(config.device)
    task = make_task(config.task)
    # Weights and optimiser in single precision whatever model.dtype says: at RL's learning rates most updates are
    # smaller than bfloat16 can represent. model.dtype is the precision of arithmetic (autocast) and of evaluation.
    model, tokenizer = policy.load(policy.resolve(config.model.path), "float32", device, chat=task.chat)
    problems = task.problems("rl")
    if not problems:
        raise WorkError(f"task {task.name} has no problems to train on")
    trainer = LabTrainer(
        arm=config.method.arm,
        model=model,
        processing_class=tokenizer,
        reward_funcs=correctness_reward(task, problems, tokenizer.eos_token_id),
        args=_trl_config(config, run.checkpoints, device),
        train_dataset=rollout_prompts(config, problems, chat=task.chat),
    )
    trainer.remove_callback(PrinterCallback)  # prints every log to stdout, which belongs to the command's result
    metrics = MetricsWriter(
        run.metrics_path,
        tracker=tracked,
        progress=shown,
        rollout_metrics=lambda: trainer.rollout_metrics,
        validate=_validator(config, task, model, tokenizer),
        eval_every=config.train.eval_every,
        resumed_at=resumed_at,
    )
    checkpoints = CheckpointPolicy(config.train.save_every, config.train.updates_per_rollout, resumed_at)
    trainer.add_callback(metrics)
    trainer.add_callback(checkpoints)
    checkpoint = run.checkpoints / f"checkpoint-{resumed_at}" if resumed_at else None
    try:
        with SignalsStop(checkpoints):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        metrics.close()
    if trainer.state.global_step < config.train.steps:
        return False, True
    _save_policy(trainer, tokenizer, run.policy)
    return True, checkpoints.stop_requested


def rollout_prompts(config: Config, problems: Sequence[Problem], *, chat: bool) -> Dataset:
    """The prompts of every rollout of the run, in the order in which they are used.

    A row a prompt and rollout: shuffled epochs over the problems, by the seed. The order is made here and not by a
    sampler, so that the position in the data after a restart is nothing but the number of updates made.
    """
    rng = random.Random(f"prompts-{config.seed}")
    rollouts = -(-config.train.steps // config.train.updates_per_rollout)
    needed = rollouts * config.train.prompts_per_rollout
    order: list[int] = []
    while len(order) < needed:
        epoch = list(range(len(problems)))
        rng.shuffle(epoch)
        order.extend(epoch)
    order = order[:needed]
    texts = [problems[index].prompt for index in order]
    return Dataset.from_dict({"prompt": [as_chat(text) for text in texts] if chat else texts, "problem": order})


def correctness_reward(task: Task, problems: Sequence[Problem], eos_token_id: int) -> Callable[..., list[float]]:
    """TRL's reward function: 1.0 for a verdict ``correct``, else 0.0. An exception of the grader ends the run."""

    def correctness(
        completions: list[Any], completion_ids: list[list[int]], problem: list[int], **_: object
    ) -> list[float]:
        rewards = []
        for completion, ids, index in zip(completions, completion_ids, problem, strict=True):
            text = completion[0]["content"] if task.chat else completion
            verdict = task.verdict(problems[index], text, finished=ids[-1] == eos_token_id)
            rewards.append(1.0 if verdict == "correct" else 0.0)
        return rewards

    return correctness


def _trl_config(config: Config, output: Path, device: str) -> GRPOConfig:
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


def _validator(config: Config, task: Task, model: Any, tokenizer: Any) -> Callable[[], dict[str, float]]:
    """Held-out Pass@1 and Pass@G on the validation split, G samples a problem, as ``validation/...``."""
    group_size = config.train.group_size
    sampler = HfSampler(
        model,
        tokenizer,
        temperature=config.train.temperature,
        top_p=1.0,
        max_new_tokens=config.task.max_new_tokens,
        chat=task.chat,
    )
    problems = task.problems("validation")

    def validate() -> dict[str, float]:
        rows = [problem for problem in problems for _ in range(group_size)]
        counts = dict.fromkeys((problem.id for problem in problems), 0)
        size = max(1, config.train.micro_batch_size)
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            seed = derived_seed(f"validation-{config.seed}-{start}")
            samples = sampler.sample([problem.prompt for problem in batch], seed)
            for problem, sample in zip(batch, samples, strict=True):
                counts[problem.id] += task.verdict(problem, sample.text, finished=sample.finished) == "correct"
        return {
            f"validation/pass@{k}": sum(pass_at_k(group_size, right, k) for right in counts.values()) / len(counts)
            for k in (1, group_size)
        }

    return validate


def _last_checkpoint(directory: Path) -> int:
    """The update of the newest complete checkpoint, or 0.

    The Trainer writes ``trainer_state.json`` last: a checkpoint is complete when that file can be read.
    """
    complete = [0]
    for state in directory.glob("checkpoint-*/trainer_state.json"):
        try:
            complete.append(int(json.loads(state.read_text(encoding="utf-8"))["global_step"]))
        except (OSError, ValueError, KeyError):
            log.warning(f"{state.parent} is incomplete and is not used")
    return max(complete)


def _save_policy(trainer: LabTrainer, tokenizer: Any, path: Path) -> None:
    partial = path.with_name(".policy.partial")
    shutil.rmtree(partial, ignore_errors=True)
    trainer.save_model(str(partial))
    (partial / "training_args.bin").unlink(missing_ok=True)  # a pickle: a policy is read without unpickling anything
    tokenizer.save_pretrained(partial)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)
