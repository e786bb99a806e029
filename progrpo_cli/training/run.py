"""One training run in its run directory, from the base policy to the trained one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from accelerate.utils import set_seed
from transformers import PrinterCallback

from progrpo_cli import processes
from progrpo_cli.config.schema import Config
from progrpo_cli.console import log, progress
from progrpo_cli.errors import Interrupted, RequestError, WorkError
from progrpo_cli.policies import policy
from progrpo_cli.records import files
from progrpo_cli.records.budget import budget_field, take_back
from progrpo_cli.records.provenance import now
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.sampling.decoders import decoder_for
from progrpo_cli.sampling.ends import end_tokens, ensure_special_tokens, token_texts
from progrpo_cli.sampling.positions import require_positions
from progrpo_cli.tasks.base import Problem, Split, Task
from progrpo_cli.tasks.contamination import count_seen, fingerprints
from progrpo_cli.tasks.judge_errors import JudgeErrors
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.tracking.wandb_run import tracker
from progrpo_cli.training.adapters import lora_config
from progrpo_cli.training.callbacks import CheckpointPolicy, MetricsFollower, MetricsWriter, StopOnSignal
from progrpo_cli.training.checkpoints import last_checkpoint, save_policy
from progrpo_cli.training.completions import CompletionTables
from progrpo_cli.training.data import longest_prompt, refill_prompts, reward_functions, rollout_prompts
from progrpo_cli.training.pickles import refuse_unsafe
from progrpo_cli.training.recipe import grpo_config
from progrpo_cli.training.trainer import LabTrainer
from progrpo_cli.training.validation import make_validator
from progrpo_cli.training.vllm_process import (
    clean_up_colocated_engine,
    disconnect_server,
    explain_server_errors,
    require_updatable_weights,
)

Watch = Callable[[Mapping[str, Any]], None]

FULL_DISK_ADVICE = (
    "every step logged so far is kept; make room, and the same command continues from the last checkpoint"
)


def record_failure(run: RunDirectory, error: Exception) -> None:
    """Write the failure into the manifest. If that fails too (the disk may be full), only warn."""
    try:
        fields = {"failed_at": now(), "error": f"{type(error).__name__}: {error}", **budget_field(run)}
        run.update(status="failed", finished_at=now(), **fields)
    except OSError as write_error:
        log.warning(f"{run.manifest_path} could not be changed: {write_error}")


def train(config: Config, run: RunDirectory, *, study: str | None = None, watch: Watch | None = None) -> None:
    """Train, or continue training, in a directory that the caller has locked and started.

    Args:
        config: the run's configuration.
        run: the run's directory.
        study: name of the study that the run belongs to.
        watch: called with each line of ``metrics.jsonl`` after it is written. An exception from it ends the run.

    Raises:
        Interrupted: a signal ended the run at a rollout boundary; the same command continues it.
        WorkError: training failed. The manifest records the error, and logged steps and checkpoints stay.
    """
    resumed_at = last_checkpoint(run.checkpoints)
    if resumed_at:
        refuse_unsafe(run.checkpoints / f"checkpoint-{resumed_at}")
    processes.broadcast(resumed_at)
    world = processes.world()
    if resumed_at:
        log.info(f"continuing {run.path} after update {resumed_at}")
        previous_world = run.manifest().get("processes", 1)
        if previous_world != world:
            log.warning(
                f"the run continues on {world} processes after {previous_world}: its samples differ from those of an "
                "uninterrupted run"
            )
        run.update(resumed_at=[*run.manifest()["resumed_at"], now()])
    take_back(run, resumed_at)
    device = policy.choose_device(config.device)
    run.update(status="running", device=device, processes=world, error=None, finished_at=None)
    try:
        with (
            clean_up_colocated_engine(config.train.generation),
            tracker(run, config, study=study) as run_tracker,
            progress(config.train.steps, run.name) as display,
        ):
            writer = partial(
                MetricsWriter,
                run.metrics_path,
                tracker=run_tracker,
                progress=display,
                method=config.method.name,
                resumed_at=resumed_at,
                health=config.train.health,
                watch=watch,
            )
            finished, stop_requested = _train(config, run, resumed_at, writer)
    except KeyboardInterrupt:
        run.update(status="interrupted", finished_at=now(), **budget_field(run))
        raise
    except RequestError:  # nothing was trained: the caller removes a new directory
        raise
    except Exception as error:
        record_failure(run, error)
        if files.is_full(error):
            raise WorkError(f"{run.path}: {error}; {FULL_DISK_ADVICE}") from error
        raise
    run.update(status="finished" if finished else "interrupted", finished_at=now(), **budget_field(run))
    if not finished:
        raise Interrupted(f"interrupted; the same command with --resume continues {run.path}")
    if stop_requested:
        raise Interrupted(f"interrupted, but {run.path} was already finished")


def _record_training_problems(config: Config, run: RunDirectory, task: Task, problems: Sequence[Problem]) -> None:
    """Record which problems the run trains on, and warn about held-out problems that are among them."""
    trained_on = fingerprints(problems, config.task)
    run.write_trained_on(config.task.label, trained_on)
    splits: tuple[Split, ...] = ("validation", "test")
    for split in splits:
        try:
            held_out = task.problems(split)
        except RequestError as error:  # for example a reference answer of the test split that cannot be parsed
            log.info(f"the {split} split was not checked for training problems ({error})")
            continue
        count_seen(held_out, config.task, trained_on, split=split)


def follow(config: Config, run: RunDirectory) -> None:
    """Train together with the main process, which runs :func:`train`.

    This process writes only its random state, into the checkpoints.

    Raises:
        Interrupted: a signal ended the run.
    """
    resumed_at = processes.receive_broadcast()
    if resumed_at is None:  # the run is finished already
        return
    finished, stop_requested = _train(config, run, resumed_at, MetricsFollower)
    if stop_requested or not finished:
        raise Interrupted("interrupted with the main process")


def _train(
    config: Config,
    run: RunDirectory,
    resumed_at: int,
    make_metrics_callback: Callable[..., MetricsWriter | MetricsFollower],
) -> tuple[bool, bool]:
    """Build the trainer and train.

    Args:
        config: the run's configuration.
        run: the run's directory.
        resumed_at: the update of the checkpoint to continue from; 0 to start.
        make_metrics_callback: makes the callback for the metrics of each update.

    Returns:
        Whether the run is finished, and whether a signal asked to stop.
    """
    device = policy.choose_device(config.device)
    task, errors = make_task(config.task), JudgeErrors()
    # Weights and optimiser state are always in single precision: at RL's learning rates most updates are smaller than
    # bfloat16 can represent. model.dtype is the precision of arithmetic (autocast) and of evaluation.
    model, tokenizer = policy.load(
        policy.resolve(config.model.path),
        "float32",
        device,
        chat=task.chat,
        trust_remote_code=config.model.trust_remote_code,
    )
    ends = end_tokens(tokenizer, model.generation_config, config.model.stop_tokens)
    ensure_special_tokens(tokenizer, ends)
    if set(ends) != {tokenizer.eos_token_id}:
        log.info(f"a completion ends with {' or '.join(token_texts(tokenizer, ends))}")
        model.generation_config.eos_token_id = list(ends)  # read by TRL, and later by users of the saved policy
    problems = task.problems("rl")
    if not problems:
        raise WorkError(f"task {task.name} has no problems to train on")
    if processes.is_main():
        _record_training_problems(config, run, task, problems)
    prompts = rollout_prompts(config, problems, chat=task.chat)
    longest = longest_prompt(prompts, tokenizer, chat=task.chat)
    require_positions(model.config, longest, config.task.max_new_tokens)
    if config.train.generation.backend == "hf" and processes.world() == 1:
        decoder_for(model)  # refuse a model that cannot be sampled from before training
    options = grpo_config(config, run.checkpoints, device, longest_prompt=longest, ends=ends)
    set_seed(config.seed)  # LoRA's weights are drawn before TRL seeds the process
    with explain_server_errors(config.train.generation):
        trainer = LabTrainer(
            method=config.method,
            correctness=config.train.correctness_reward,
            refill_prompts=refill_prompts(config, problems, chat=task.chat),
            model=model,
            processing_class=tokenizer,
            reward_funcs=reward_functions(config, task, problems, ends, errors),
            args=options,
            train_dataset=prompts,
            peft_config=lora_config(config.model.lora, model),
        )
    trainer.failures = run.failures
    trainer.keep_checkpoints = config.train.keep_checkpoints
    require_updatable_weights(trainer)
    if trainer.use_vllm:
        set_seed(config.seed, device_specific=True)  # a colocated vLLM has just seeded this process with its rank
    trainer.remove_callback(PrinterCallback)  # it prints to stdout, which belongs to the command's result
    metrics = make_metrics_callback(
        rollout_metrics=lambda: trainer.rollout_metrics,
        validate=make_validator(config, task, model, tokenizer, errors),
        eval_every=config.train.eval_every,
    )
    tables = CompletionTables(
        run.completions,
        keep=config.train.keep_completions,
        trainer=trainer,
        updates_per_rollout=config.train.updates_per_rollout,
        resumed_at=resumed_at,
    )
    checkpoints = CheckpointPolicy(
        config.train.save_every, config.train.updates_per_rollout, resumed_at, lambda: bool(errors.too_many)
    )
    trainer.add_callback(metrics)
    trainer.add_callback(tables)  # after the metrics callback, which completes the rollout's log
    trainer.add_callback(checkpoints)
    checkpoint = run.checkpoints / f"checkpoint-{resumed_at}" if resumed_at else None
    try:
        with StopOnSignal(checkpoints):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        metrics.close()
        disconnect_server(trainer)
    stop_requested = any(processes.all_gather(checkpoints.stop_requested))
    if trainer.state.global_step < config.train.steps:
        if errors.too_many:
            raise WorkError(f"{errors.too_many}; stopped after update {trainer.state.global_step}, which is saved")
        return False, True
    trainer.require_finite_weights()
    if processes.is_main():
        save_policy(trainer, tokenizer, run.policy)
    return True, stop_requested
