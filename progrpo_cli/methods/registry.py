"""Finds methods by name: the files of this package, and the classes that other installed packages register."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from progrpo_cli.catalogue import Catalogue
from progrpo_cli.methods.base import Method, curve_names

_HERE = Path(__file__).parent


@cache
def method_classes() -> dict[str, type[Method]]:
    """The methods of this package by name. Importing their files does not import torch."""
    classes = {}
    for info in pkgutil.iter_modules([str(_HERE)]):
        module = importlib.import_module(f"progrpo_cli.methods.{info.name}")
        for member in vars(module).values():
            defined_here = isinstance(member, type) and member.__module__ == module.__name__
            if defined_here and issubclass(member, Method) and member is not Method:
                classes[info.name] = member
    return classes


SHARED_RECIPE = "grpo"
"""The method that is the shared recipe without a change: the default baseline of comparisons."""

METHODS = Catalogue("method", "progrpo.methods", Method, "name", method_classes)
"""All methods by ``method.name``."""


def method_modules(method: Method) -> list[str]:
    """The modules that define what a method computes: its class, the classes it inherits from, and ARM if it is on."""
    modules = [cls.__module__ for cls in type(method).__mro__ if issubclass(cls, Method)]
    return [*modules, *(["progrpo_cli.methods.arm"] if method.arm is not None else [])]


def label(name: str, arm_alpha: object) -> str:
    """The method's name in results: ``NAME+arm`` if ARM is on and is not part of the method itself.

    Args:
        name: name of the method.
        arm_alpha: ARM's strength. None means that ARM is off; with 0 it has no effect.
    """
    method = method_classes().get(name)
    has_own_arm = method is not None and method.model_fields["arm"].is_required()
    return f"{name}+arm" if arm_alpha and not has_own_arm else name


def default_curves(name: object, *, with_arm: bool) -> list[str]:
    """Metrics to draw for a run whose manifest does not list them: the curves of the shipped method of that name."""
    method = method_classes().get(str(name), Method)
    return curve_names(method, with_arm=with_arm)
