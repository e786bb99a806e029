"""Configuration values: flat, as text, and compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel


def flatten(config: BaseModel) -> dict[str, Any]:
    """The configuration as ``{"method.arm.alpha": 1.0, ...}``; a section that is null is one key with None."""
    return dict(flat(config.model_dump(mode="json")))


def flat(section: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The keys of a nested configuration with their values, e.g. ``("method.arm.alpha", 0.3)``."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def shown(value: object) -> str:
    """A configuration value as labels and tables show it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if not isinstance(value, int | float):
        return str(value)
    short = f"{value:g}"  # 0.0002 rather than 2e-04, but never another number
    return short if float(short) == value else str(value)


def comparable(value: object) -> str:
    """W&B may give 1 back for 1.0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value))
    return json.dumps(value, sort_keys=True, default=str)


def to_yaml(config: BaseModel) -> str:
    """The configuration as YAML, keys in the order of the schema."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def canonical_json(value: object) -> str:
    """One text for one value: sorted keys, no spaces, and no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
