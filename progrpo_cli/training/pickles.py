"""What a checkpoint that somebody was sent may hold: tensors and numbers, nothing that runs when it is read."""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError

import torch
from transformers.trainer_pt_utils import safe_globals

from progrpo_cli.errors import RequestError

# What the Trainer itself writes with pickle and reads with `weights_only`: an unpickler for tensors and plain values.
OURS = re.compile(r"(optimizer|scheduler|scaler)\.pt|rng_state(_\d+)?\.pth")
PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")


def refuse_unsafe(checkpoint: Path) -> None:
    """Look through a checkpoint before anything reads it.

    Raises:
        RequestError: its weights are no safetensors, it holds a pickle that we do not write, or one of those that we do
            write holds more than tensors and plain values. Nothing in it was executed.
    """
    what_to_do = "nothing of it was read; take the checkpoint away, or start again with --fresh"
    if not any((checkpoint / name).is_file() for name in WEIGHTS):
        raise RequestError(f"{checkpoint} has no weights in safetensors: {what_to_do}")
    for path in sorted(checkpoint.rglob("*")):
        if path.suffix not in PICKLES:
            continue
        if not OURS.fullmatch(path.name):
            raise RequestError(f"{path} is a pickle that progrpo does not write: {what_to_do}")
        try:
            with safe_globals():
                torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # mmap: no tensor is read
        except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
            raise RequestError(f"{path} holds something else than tensors and plain values: {what_to_do}") from error
