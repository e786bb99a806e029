"""Whether a model's files are what they have to be: files, whole, finite, and of a size that can be meant."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progrpo_cli.errors import RequestError
from progrpo_cli.untrusted import read_text

MOST_LAYERS, LARGEST_SIZE = 2048, 1 << 24
"""Of a model: the deepest has 200 layers; the largest vocabulary 300,000 tokens."""
_NO_SIZES = ("max_position_embeddings", "model_max_length", "max_length", "original_max_position_embeddings")
"""Numbers of positions, for which nothing is made."""
_DESCRIBES = 256 << 20
"""Bytes of a file of a model that is not its weights: the largest vocabularies have 40 MB."""


def refuse_what_is_not_whole(label: str, loaded: Mapping[str, Any], tied: Mapping[str, str]) -> None:
    """Refuse weights that are not all there: transformers fills in random numbers, says so in a table, and goes on.

    Args:
        label: the policy's, for the message.
        loaded: what transformers says of the tensors it missed, did not expect, or found in another shape.
        tied: tensors that are another one under a second name.

    Raises:
        RequestError: names the first tensor of each kind.
    """
    missing = sorted(set(loaded["missing_keys"]) - set(tied))
    unexpected = sorted(set(loaded["unexpected_keys"]) - set(tied))
    shapes = {str(name): (tuple(held), tuple(needed)) for name, held, needed in loaded["mismatched_keys"]}
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing ({missing[0]})")
    if shapes:
        name, (held, needed) = min(shapes.items())
        problems.append(f"{len(shapes)} have another shape ({name}: {held}, not {needed})")
    if unexpected:
        problems.append(f"{len(unexpected)} belong to another model ({unexpected[0]})")
    problems += [" ".join(str(message).split())[:200] for message in loaded.get("error_msgs") or ()]
    if problems:
        raise RequestError(f"cannot load {label}: its weights are not whole: {'; '.join(problems)}")


def refuse_what_is_not_finite(label: str, model: Any) -> None:
    import torch

    for name, weight in model.named_parameters():
        if not weight.is_meta and not bool(torch.isfinite(weight).all()):
            raise RequestError(f"cannot load {label}: {name} holds values that are not finite (NaN or infinity)")


def refuse_what_is_no_file(directory: Path) -> None:
    """Transformers opens what has a name that it knows: a pipe would be waited for, a device has no end."""
    for entry in sorted(directory.iterdir()):
        try:
            mode, size = entry.stat().st_mode, entry.stat().st_size
        except OSError:  # a link that leads nowhere: it is missing
            continue
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise RequestError(f"cannot load {directory}: {entry.name} is not a regular file")
        if entry.suffix in (".json", ".jinja", ".txt", ".model") and size > _DESCRIBES:
            raise RequestError(f"cannot load {directory}: {entry.name} has {size >> 20} MiB")


def refuse_endless_layers(directory: Path) -> None:
    """A configuration of a kilobyte can ask for ten million layers, which are made before any weight is looked for."""
    try:
        held = json.loads(read_text(directory / "config.json"))
    except (OSError, ValueError, RecursionError):  # transformers says what is wrong
        return
    sections = [held, *held.values()] if isinstance(held, dict) else []
    for section in sections:
        for key, value in section.items() if isinstance(section, dict) else ():
            most = MOST_LAYERS if "layers" in key or key in ("n_layer", "depth") else LARGEST_SIZE
            if isinstance(value, int) and value > most and key not in _NO_SIZES:
                raise RequestError(f"cannot load {directory}: config.json says {key}={str(value)[:30]}, above {most:,}")


def refuse_pickled_adapter(directory: Path) -> None:
    """Without safetensors transformers takes an adapter from a pickle, whatever it is told of the weights."""
    if (directory / "adapter_config.json").is_file() and not (directory / "adapter_model.safetensors").is_file():
        raise RequestError(f"cannot load {directory}: its adapter has no weights in safetensors")
