"""vLLM around a training run: explains its errors, and cleans up after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from progrpo_cli.config.schema import GenerationConfig
from progrpo_cli.errors import RequestError

LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def explain_server_errors(generation: GenerationConfig) -> Iterator[None]:
    """Context manager around TRL's connection to a vLLM server: turns its errors into a RequestError.

    Raises:
        RequestError: the server does not answer, or there is no GPU to send weights from (TRL needs NCCL for that).
    """
    try:
        yield
    except (OSError, NotImplementedError) as error:
        if generation.mode != "server":
            raise
        raise RequestError(
            f"train.generation.mode=server: {error} (without a GPU, use train.generation.mode=colocate or backend=hf)"
        ) from error


def require_updatable_weights(trainer: Any) -> None:
    """Check that a colocated engine can be given new weights.

    Raises:
        RequestError: vLLM's CPU build has packed the weights of the linear layers, which cannot be replaced then.
    """
    if not trainer.use_vllm or trainer.vllm_mode != "colocate":
        return
    engine = trainer.vllm_generation.llm.llm_engine  # TRL sends weights to the same object
    weights = engine.model_executor.driver_worker.model_runner.model.named_parameters()
    if packed := [name for name, weight in weights if not weight.numel()]:
        raise RequestError(
            f"train.generation.backend=vllm: this build of vLLM packs its weights, so they cannot be updated "
            f"({packed[0]}); try train.generation.backend=hf"
        )


def disconnect_server(trainer: Any) -> None:
    """Close the process group that sends weights to a server; a worker's next run opens one on the same port."""
    if trainer.use_vllm and trainer.vllm_mode == "server" and trainer.accelerator.is_main_process:
        trainer.vllm_generation.vllm_client.close_communicator()


@contextmanager
def clean_up_colocated_engine(generation: GenerationConfig) -> Iterator[None]:
    """Context manager around a training run: removes what a colocated vLLM leaves in the process.

    TRL sets a launcher's environment variables and vLLM joins a process group. Without the clean-up, the next run of a
    sweep's worker would believe that it is one of several processes, and the engine's memory would not be freed.
    """
    if generation.backend != "vllm" or generation.mode != "colocate":
        yield
        return
    before = {name: os.environ.get(name) for name in LAUNCHER_VARIABLES}
    try:
        yield
    finally:
        from vllm.distributed import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
