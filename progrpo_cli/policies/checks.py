"""Checks of a model's files: regular files, complete and finite weights, plausible sizes."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progrpo_cli.errors import RequestError
from progrpo_cli.untrusted import read_text

MOST_LAYERS, LARGEST_SIZE = 2048, 1 << 24
"""Limits on a model. The deepest models have 200 layers; the largest vocabularies have 300,000 tokens."""
_NOT_SIZES = ("max_position_embeddings", "model_max_length", "max_length", "original_max_position_embeddings")
"""Keys with numbers of positions, for which no tensor is created."""
_LARGEST_FILE = 256 << 20
"""Bytes of a model's file other than its weights. The largest vocabularies have 40 MB."""


def check_weights(label: str, loading_info: Mapping[str, Any], tied: Mapping[str, str]) -> None:
    """Refuse incomplete weights. transformers would replace missing tensors by random numbers and only log it.

    Args:
        label: the policy's name, for the message.
        loading_info: transformers' lists of missing, unexpected and mismatched tensors.
        tied: tensors that share the memory of another tensor.

    Raises:
        RequestError: weights are missing, unexpected or have another shape. The message names the first of each.
    """
    missing = sorted(set(loading_info["missing_keys"]) - set(tied))
    unexpected = sorted(set(loading_info["unexpected_keys"]) - set(tied))
    shapes = {str(name): (tuple(actual), tuple(needed)) for name, actual, needed in loading_info["mismatched_keys"]}
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing ({missing[0]})")
    if shapes:
        name, (actual, needed) = min(shapes.items())
        problems.append(f"{len(shapes)} have another shape ({name}: {actual}, not {needed})")
    if unexpected:
        problems.append(f"{len(unexpected)} belong to another model ({unexpected[0]})")
    problems += [" ".join(str(message).split())[:200] for message in loading_info.get("error_msgs") or ()]
    if problems:
        raise RequestError(f"cannot load {label}: its weights are incomplete or do not fit: {'; '.join(problems)}")


def check_finite(label: str, model: Any) -> None:
    import torch

    for name, weight in model.named_parameters():
        if not weight.is_meta and not bool(torch.isfinite(weight).all()):
            raise RequestError(f"cannot load {label}: {name} has values that are not finite (NaN or infinity)")


def check_files(directory: Path) -> None:
    """Refuse files that are not regular or too large. transformers would wait for a pipe and never end on a device."""
    for entry in sorted(directory.iterdir()):
        try:
            mode, size = entry.stat().st_mode, entry.stat().st_size
        except OSError:  # a broken link counts as a missing file
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise RequestError(f"cannot load {directory}: {entry.name} is not a regular file")
        if entry.suffix in (".json", ".jinja", ".txt", ".model") and size > _LARGEST_FILE:
            raise RequestError(f"cannot load {directory}: {entry.name} has {size >> 20} MiB")


def check_sizes(directory: Path) -> None:
    """Refuse huge sizes in ``config.json``, such as ten million layers: transformers creates them before it loads."""
    try:
        config = json.loads(read_text(directory / "config.json"))
    except (OSError, ValueError, RecursionError):  # transformers reports the error
        return
    sections = [config, *config.values()] if isinstance(config, dict) else []
    for section in sections:
        for key, value in section.items() if isinstance(section, dict) else ():
            largest = MOST_LAYERS if "layers" in key or key in ("n_layer", "depth") else LARGEST_SIZE
            if isinstance(value, int) and value > largest and key not in _NOT_SIZES:
                raise RequestError(
                    f"cannot load {directory}: config.json says {key}={str(value)[:30]}, above {largest:,}"
                )


def check_adapter(directory: Path) -> None:
    """Refuse an adapter without safetensors: transformers would load it from a pickle, even with use_safetensors."""
    if (directory / "adapter_config.json").is_file() and not (directory / "adapter_model.safetensors").is_file():
        raise RequestError(f"cannot load {directory}: its adapter has no weights in safetensors")
