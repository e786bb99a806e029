"""The fields of ``manifest.json``: a run's identity, provenance and status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from progrpo_cli.errors import RequestError
from progrpo_cli.untrusted import read_text

_ALWAYS = {"kind", "status", "config_hash", "seed", "started_at", "finished_at"}
"""Keys that every version of the manifest has."""


class Changes(TypedDict, total=False):
    """The fields that change during a run. docs/files.md describes them."""

    status: Literal["running", "finished", "interrupted", "failed"]
    finished_at: str | None
    error: str | None
    failed_at: str | None
    resumed_at: list[str]
    device: str
    processes: int
    budget: dict[str, Any]
    taken_back: dict[str, Any]
    sources_since: list[dict[str, Any]]
    wandb_run_id: str
    git: dict[str, Any]
    sources: dict[str, Any]


class Manifest(Changes, total=False):
    """The whole file. Files of earlier versions have fewer fields."""

    kind: Literal["run", "model"]
    config_hash: str
    seed: int
    versions: dict[str, int]
    started_at: str
    curves: list[str]
    """The metrics of the method that a report draws."""
    model: str
    study: str | None
    config_signature: str
    command: str
    progrpo: str
    packages: dict[str, str]
    host: dict[str, Any]


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.json``.

    Raises:
        RequestError: it is missing, not JSON, or another program's.
    """
    try:
        content: Any = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path.parent} is not a run directory: no readable manifest.json") from error
    if not isinstance(content, dict) or not content.keys() >= _ALWAYS or not isinstance(content["started_at"], str):
        raise RequestError(f"{path.parent} is not a run directory: its manifest.json is not progrpo's")
    return cast(Manifest, content)
