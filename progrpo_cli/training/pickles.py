"""Checks a checkpoint from an untrusted source: it may hold tensors and plain values, nothing that runs when read."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError

import torch
from transformers.trainer_pt_utils import safe_globals

from progrpo_cli.errors import RequestError

# Pickles that the Trainer itself writes, and reads with `weights_only`: an unpickler for tensors and plain values.
ALLOWED_PICKLES = re.compile(r"(optimizer|scheduler|scaler)\.pt|rng_state(_\d+)?\.pth")
PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")


def refuse_unsafe(checkpoint: Path) -> None:
    """Check all files of a checkpoint before anything reads them. Nothing in them is executed.

    Raises:
        RequestError: the weights are not safetensors, there is a pickle that the Trainer does not write, or one that it
            writes holds something other than tensors and plain values.
    """
    advice = "the checkpoint was not read; remove it, or start again with --fresh"
    if not any((checkpoint / name).is_file() for name in WEIGHTS):
        raise RequestError(f"{checkpoint} has no weights in safetensors: {advice}")
    for path in sorted(checkpoint.rglob("*")):
        if path.suffix not in PICKLES:
            continue
        if not ALLOWED_PICKLES.fullmatch(path.name):
            raise RequestError(f"{path} is a pickle that progrpo does not write: {advice}")
        try:
            with safe_globals():
                torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # mmap: no tensor is read
        except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
            raise RequestError(f"{path} holds something other than tensors and plain values: {advice}") from error
