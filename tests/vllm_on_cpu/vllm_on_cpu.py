"""A plugin of vLLM for tests with its CPU build: put this folder on PYTHONPATH, and words into VLLM_ON_CPU.

keep_weights: linear layers keep the weights that they are given. As vLLM is, it packs them once where oneDNN has a
kernel for their precision and the CPU at hand, and then takes no others.
single_precision: the policy is sampled from in single precision, for which oneDNN has a kernel on every CPU; vLLM, left
to choose, takes what the policy is stored in, and bfloat16 for single precision.

vLLM loads it in each of its processes (entry point `vllm.general_plugins`, see the folder `*.dist-info`).
"""

import os

import torch


def register() -> None:
    from vllm.config import model
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
    from vllm.model_executor.layers import utils

    asked = os.environ.get("VLLM_ON_CPU", "").split(",")
    if "keep_weights" in asked:
        utils.dispatch_cpu_unquantized_gemm = keep_weights
    if "single_precision" in asked:
        model._resolve_auto_dtype = lambda *args, **kwargs: torch.float32
    if "gloo" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("gloo", "gloo_engine", "GlooWeightTransferEngine")


def keep_weights(layer: torch.nn.Module, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear
