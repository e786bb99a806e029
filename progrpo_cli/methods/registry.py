"""Finding a method by its name: a file of this package that is called so, or another installed package's class."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from progrpo_cli.catalogue import Catalogue
from progrpo_cli.methods.base import Method

_HERE = Path(__file__).parent


@cache
def method_classes() -> dict[str, type[Method]]:
    """Name -> class, of every method that this package ships. The files import torch only where they compute."""
    found = {}
    for info in pkgutil.iter_modules([str(_HERE)]):
        module = importlib.import_module(f"progrpo_cli.methods.{info.name}")
        for member in vars(module).values():
            defined_here = isinstance(member, type) and member.__module__ == module.__name__
            if defined_here and issubclass(member, Method) and member is not Method:
                found[info.name] = member
    return found


METHODS = Catalogue("method", "progrpo.methods", Method, "name", method_classes)
"""All methods by the name in ``method.name``."""


def method_modules(method: Method) -> list[str]:
    """The modules that say what a method does: its own, those that it inherits from, and ARM's where it is on."""
    inherited = [each.__module__ for each in type(method).__mro__ if issubclass(each, Method)]
    return [*inherited, *(["progrpo_cli.methods.arm"] if method.arm is not None else [])]
