"""A policy with two end tokens: a copy of the lab's base that ends with its other special token, as chat models do."""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from progrpo_cli.config.paths import ASSETS

OWN, OTHER = 2, 1
"""The tokenizer's end of sequence, which this policy never samples, and the token that it ends with."""


def write_two_ended(directory: Path, *, named: bool = True) -> Path:
    """Write the lab's base with the two rows of its head swapped; ``named``: generation_config lists both tokens."""
    shutil.copytree(ASSETS / "lab-base", directory)
    config = json.loads((directory / "config.json").read_text())
    weights = load_file(directory / "model.safetensors")
    embedded = weights["model.embed_tokens.weight"]
    head = weights.get("lm_head.weight", embedded).clone()
    head[[OWN, OTHER]] = head[[OTHER, OWN]]
    save_file({**weights, "lm_head.weight": head}, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    generation = json.loads((directory / "generation_config.json").read_text())
    ends = [OWN, OTHER] if named else OWN
    (directory / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": ends}))
    return directory
