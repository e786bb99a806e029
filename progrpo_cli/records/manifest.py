"""What ``manifest.json`` holds: who a run is, how it came about and how it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from progrpo_cli.errors import RequestError

_ALWAYS = {"kind", "status", "config_hash", "seed", "started_at", "finished_at"}
"""Keys that every manifest of ours has had."""


class Changes(TypedDict, total=False):
    """The fields that change while a run goes on; docs/files.md explains each."""

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
    """The whole file; files of earlier versions have fewer fields."""

    kind: Literal["run", "model"]
    config_hash: str
    seed: int
    versions: dict[str, int]
    started_at: str
    curves: list[str]
    """The metrics of its method that a report draws."""
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
        RequestError: there is none, it is not JSON, or it is another program's.
    """
    try:
        held: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path.parent} is not a run directory: no readable manifest.json") from error
    if not isinstance(held, dict) or not held.keys() >= _ALWAYS or not isinstance(held["started_at"], str):
        raise RequestError(f"{path.parent} is not a run directory: its manifest.json is not one of ours")
    return cast(Manifest, held)
