"""Packages that only some tasks need."""

from __future__ import annotations

from importlib.util import find_spec

from progrpo_cli.errors import RequestError


def require(module: str, package: str, task: str) -> None:
    """Check that the package of a task is installed, without importing it.

    Raises:
        RequestError: the package is not installed. The message says how to install it.
    """
    if find_spec(module) is None:
        raise RequestError(f"task {task} needs {package}: pip install 'progrpo[tasks]'")
