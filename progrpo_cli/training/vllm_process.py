"""vLLM around a training run: what goes wrong when it is asked for, and what it leaves behind in our process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from progrpo_cli.config.schema import GenerationConfig
from progrpo_cli.errors import RequestError

LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def server_is_usable(generation: GenerationConfig) -> Iterator[None]:
    """Within: TRL connects to a vLLM server.

    Raises:
        RequestError: the server is gone, or there is no GPU to send weights from (TRL sends them over NCCL alone).
    """
    try:
        yield
    except (OSError, NotImplementedError) as error:
        if generation.mode != "server":
            raise
        raise RequestError(
            f"train.generation.mode=server: {error} (without a GPU: train.generation.mode=colocate or backend=hf)"
        ) from error


def require_new_weights_to_fit(trainer: Any) -> None:
    """Refuse a colocated engine that cannot be given new weights: vLLM's CPU build packs those of linear layers away.

    Raises:
        RequestError: as described.
    """
    if not trainer.use_vllm or trainer.vllm_mode != "colocate":
        return
    engine = trainer.vllm_generation.llm.llm_engine  # the way on which TRL sends weights
    weights = engine.model_executor.driver_worker.model_runner.model.named_parameters()
    if packed := [name for name, weight in weights if not weight.numel()]:
        raise RequestError(
            f"train.generation.backend=vllm: this build of vLLM packs its weights and takes no new ones ({packed[0]}); "
            f"try train.generation.backend=hf"
        )


def leave_server(trainer: Any) -> None:
    """Close the group through which weights went to a server: a worker's next run opens one on the same port."""
    if trainer.use_vllm and trainer.vllm_mode == "server" and trainer.accelerator.is_main_process:  # which holds it
        trainer.vllm_generation.vllm_client.close_communicator()


@contextmanager
def taken_away_after(generation: GenerationConfig) -> Iterator[None]:
    """Within: a training run. After one with a colocated vLLM the process is as before it.

    TRL poses as a launcher of one process and vLLM joins its process group: the next run of a sweep's worker would take
    itself for one of several processes, and the engine's memory would not come back.
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
