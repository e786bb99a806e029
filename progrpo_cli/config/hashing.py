"""The hash that says whether two runs may be compared or pooled."""

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
    """The keys, of sections too, that are marked as no part of the hash, in whatever configuration we ship."""
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
    """Twelve hexadecimal digits over everything in the configuration that can change a number.

    A key that has a default was added later (see the schema): at its default it is left out, as if it were not there.
    """
    return digest(_hashed(config, config.model_dump(mode="json", exclude_defaults=True)))


def with_defaults(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """A resolved configuration with the keys that were added after it was written, at their defaults.

    So that what has one hash has one set of settings. One that is not valid in this version stays as it is. No code
    of another package is imported: of its method or task only what all have is completed.
    """
    try:
        return Config.model_validate(configuration, context=SHIPPED_CODE_ONLY).model_dump(mode="json")
    except (ValueError, TypeError, OverflowError):
        return configuration


def _hashed(section: BaseModel, dumped: Mapping[str, Any]) -> dict[str, Any]:
    """What was dumped of a section, without fields that are marked as unhashed and without sections that are empty."""
    unhashed = section.marked(Mark.UNHASHED) if isinstance(section, Section) else []
    hashed = {}
    for name, value in dumped.items():
        below = getattr(section, name)
        if name not in unhashed:
            hashed[name] = _hashed(below, value) if isinstance(below, BaseModel) else value
    return {name: value for name, value in hashed.items() if value != {}}


def digest(value: object) -> str:
    """Twelve hexadecimal digits of SHA-256 over the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]
