"""The hash that says whether two runs may be compared or pooled."""

from __future__ import annotations

import hashlib

from progrpo_cli.config.compose import canonical_json
from progrpo_cli.config.schema import Config


def config_hash(config: Config) -> str:
    """Twelve hexadecimal digits over everything in the configuration that can change a number."""
    hashed = config.model_dump(
        mode="json",
        # What cannot change a number, and the seed, over which runs are pooled (`experiment`, `model.name`: labels).
        exclude={
            "seed": True,
            "tracking": True,
            "device": True,
            "experiment": True,
            "model": {"name"},
            "train": {"save_every", "eval_every"},
        },
    )
    return digest(hashed)


def digest(value: object) -> str:
    """Twelve hexadecimal digits of SHA-256 over the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
