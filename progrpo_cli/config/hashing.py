"""The hash of a configuration. Runs with the same hash differ only in their seeds and may be pooled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from progrpo_cli.config.compose import sections_of
from progrpo_cli.config.schema import SHIPPED_CODE_ONLY, Config
from progrpo_cli.config.values import canonical_json
from progrpo_cli.section import Mark, Section


@cache
def unhashed_keys() -> frozenset[str]:
    """Return the keys of fields and sections that are marked as unhashed, over all shipped methods and tasks."""
    return frozenset(_marked(Config, ""))


def _marked(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if Mark.UNHASHED in field.metadata:
            yield prefix + name
        else:
            for section in sections_of(field.annotation):
                yield from _marked(section, f"{prefix}{name}.")


@cache
def is_hashed(key: str) -> bool:
    """Whether a configuration key such as ``method.arm.alpha`` is part of the hash."""
    parts = key.split(".")
    return not any(".".join(parts[:length]) in unhashed_keys() for length in range(1, len(parts) + 1))


def config_hash(config: Config) -> str:
    """Return twelve hexadecimal digits over everything in the configuration that can change a result.

    Keys with a default were added after the first version of the schema. At their default they are left out, so that
    the hashes of older configurations stay the same.
    """
    return digest(_hashed(config, config.model_dump(mode="json", exclude_defaults=True)))


def with_defaults(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the keys that were introduced after a configuration was written, at their defaults.

    Configurations with the same hash then have the same settings. One that is invalid in this version is returned
    unchanged. No code of another package is imported: of its method or task only the common keys are added.
    """
    try:
        return Config.model_validate(configuration, context=SHIPPED_CODE_ONLY).model_dump(mode="json")
    except (ValueError, TypeError, OverflowError):
        return configuration


def _hashed(section: BaseModel, dumped: Mapping[str, Any]) -> dict[str, Any]:
    """Remove unhashed fields and empty sections from the dump of a section."""
    unhashed = section.marked(Mark.UNHASHED) if isinstance(section, Section) else []
    hashed = {}
    for name, value in dumped.items():
        field = getattr(section, name)
        if name not in unhashed:
            hashed[name] = _hashed(field, value) if isinstance(field, BaseModel) else value
    return {name: value for name, value in hashed.items() if value != {}}


def digest(value: object) -> str:
    """Return twelve hexadecimal digits of SHA-256 over the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
