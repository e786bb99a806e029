"""vLLM's weight transfer over gloo instead of NCCL, which needs GPUs: both ends. Only for tests.

All else is vLLM's and TRL's own: the HTTP requests, the order of an update, layer-wise reloading, `load_weights`.
"""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import torch
from vllm.distributed.utils import stateless_init_torch_distributed_process_group
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine


class GlooWeightTransferEngine(NCCLWeightTransferEngine):
    """The server's end: what `--weight-transfer-config '{"backend": "gloo"}'` makes."""

    def init_transfer_engine(self, init_info) -> None:
        rank = init_info.rank_offset + self.parallel_config.rank
        self.model_update_group = Group(init_info.master_address, init_info.master_port, rank, init_info.world_size)

    def update_weights(self, update_info: dict) -> None:
        self.receive_weights(self.parse_update_info(update_info))  # NCCL's waits for an accelerator as well

    def receive_weights(self, update_info) -> None:
        for name, dtype, shape in zip(update_info.names, update_info.dtype_names, update_info.shapes, strict=True):
            weight = torch.empty(shape, dtype=getattr(torch, dtype))
            self.model_update_group.broadcast(weight)
            self.model.load_weights([(name, weight)])


class Group:
    """Trainer (rank 0) and workers; ``group`` holds what TRL lets go of when it closes its end."""

    def __init__(self, address: str, port: int, rank: int, world_size: int) -> None:
        self._processes, store = stateless_init_torch_distributed_process_group(
            address, port, rank, world_size, backend="gloo", return_store=True
        )
        self.group = SimpleNamespace(store=store, socket=None)

    def broadcast(self, tensor: torch.Tensor) -> None:
        self._processes.broadcast(tensor, 0).wait()


def init_communicator(client, device=None) -> None:
    """The trainer's end, for `trl.generation.vllm_client.VLLMClient.init_communicator`."""
    world_size = client.get_world_size() + 1
    info = {"master_address": "127.0.0.1", "master_port": client.group_port, "rank_offset": 1, "world_size": world_size}
    with ThreadPoolExecutor(max_workers=1) as executor:
        answer = executor.submit(
            client._post, f"{client.base_url}/init_weight_transfer_engine", json={"init_info": info}
        )
        client.communicator = Group(info["master_address"], info["master_port"], 0, world_size)
        answer.result()


def send(iterator, group: Group, src: int, post_iter_func) -> None:
    """For `packed_nccl_broadcast_producer` of TRL's module."""
    for item in iterator:
        group.broadcast(post_iter_func(item).contiguous())
