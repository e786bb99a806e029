"""The hash that says whether two runs may be compared or pooled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from progrpo_cli.config.schema import Config
from progrpo_cli.config.values import canonical_json

# What cannot change a number; the seed, over which runs are pooled; and labels (`experiment`, `model.name`).
UNHASHED = (
    "seed",
    "tracking",
    "device",
    "experiment",
    "model.name",
    "task.sandbox",
    "train.save_every",
    "train.eval_every",
    "train.keep_checkpoints",
    "train.keep_completions",
    "train.health",
    "train.gradient_checkpointing",
    "train.generation.server_url",
    "train.generation.server_sync_port",
    "train.generation.gpu_memory_utilization",
)


@cache
def is_hashed(key: str) -> bool:
    """Whether a configuration key such as ``method.arm.alpha`` is part of the hash."""
    return not any(key == left_out or key.startswith(f"{left_out}.") for left_out in UNHASHED)


def config_hash(config: Config) -> str:
    """Twelve hexadecimal digits over everything in the configuration that can change a number.

    A key that has a default was added later (see the schema): at its default it is left out, as if it were not there.
    """
    return digest(_hashed(config.model_dump(mode="json", exclude_defaults=True), ""))


def with_defaults(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """A resolved configuration with the keys that were added after it was written, at their defaults.

    So that what has one hash has one set of settings. One that is not valid in this version stays as it is.
    """
    try:
        return Config.model_validate(configuration).model_dump(mode="json")
    except (ValueError, TypeError, OverflowError):
        return configuration


def _hashed(section: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    hashed = {
        name: _hashed(value, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        for name, value in section.items()
        if is_hashed(prefix + name)
    }
    return {name: value for name, value in hashed.items() if value != {}}


def digest(value: object) -> str:
    """Twelve hexadecimal digits of SHA-256 over the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
