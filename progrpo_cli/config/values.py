"""Flatten configurations, and convert values and configurations to text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel


def flatten(config: BaseModel) -> dict[str, Any]:
    """Return the configuration as ``{"method.arm.alpha": 1.0, ...}``; a section that is null is one key with None."""
    return dict(flat_items(config.model_dump(mode="json")))


def flat_items(section: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the keys and values of a nested configuration, e.g. ``("method.arm.alpha", 0.3)``."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from flat_items(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def format_value(value: object) -> str:
    """Return a configuration value as text for labels and tables."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if not isinstance(value, int | float):
        return str(value)
    short = f"{value:g}"  # 0.0002 rather than 2e-04, unless digits would be lost
    return short if float(short) == value else str(value)


def comparison_text(value: object) -> str:
    """Return text that is equal for equal values: W&B may return 1 for 1.0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return json.dumps(value, sort_keys=True, default=str)


def to_yaml(config: BaseModel) -> str:
    """Return the configuration as YAML, with the keys in the order of the schema."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def canonical_json(value: object) -> str:
    """Return the same JSON for equal values: keys sorted, no spaces. NaN and infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
