"""Finding a method by its name: the file of this package that is called so."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from progrpo_cli.methods.base import Method

_HERE = Path(__file__).parent


@cache
def method_classes() -> dict[str, type[Method]]:
    """Name -> class, of every method there is. The files import torch only where they compute."""
    found = {}
    for module in pkgutil.iter_modules([str(_HERE)]):
        members = vars(importlib.import_module(f"progrpo_cli.methods.{module.name}")).values()
        for member in members:
            if isinstance(member, type) and issubclass(member, Method) and member.__module__.endswith(module.name):
                found[module.name] = member
    del found["base"]
    return found
