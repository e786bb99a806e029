"""Finding a method by its name: a file of this package that is called so, or another installed package's class."""

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
    """Name -> class, of every method that this package ships. The files import torch only where they compute."""
    found = {}
    for info in pkgutil.iter_modules([str(_HERE)]):
        module = importlib.import_module(f"progrpo_cli.methods.{info.name}")
        for member in vars(module).values():
            defined_here = isinstance(member, type) and member.__module__ == module.__name__
            if defined_here and issubclass(member, Method) and member is not Method:
                found[info.name] = member
    return found


SHARED_RECIPE = "grpo"
"""The method that is the shared recipe and nothing else: what the others are compared with unless somebody says so."""

METHODS = Catalogue("method", "progrpo.methods", Method, "name", method_classes)
"""All methods by the name in ``method.name``."""


def method_modules(method: Method) -> list[str]:
    """The modules that say what a method does: its own, those that it inherits from, and ARM's where it is on."""
    inherited = [each.__module__ for each in type(method).__mro__ if issubclass(each, Method)]
    return [*inherited, *(["progrpo_cli.methods.arm"] if method.arm is not None else [])]


def label(name: str, arm_alpha: object) -> str:
    """How results name a method: ``NAME+arm`` where ARM is on top of a method that we do not ship with ARM in it.

    Args:
        name: the method's.
        arm_alpha: ARM's strength; None: ARM is off. With 0 it does nothing.
    """
    method = method_classes().get(name)
    has_arm_in_it = method is not None and method.model_fields["arm"].is_required()
    return f"{name}+arm" if arm_alpha and not has_arm_in_it else name


def curves_of_earlier(name: object, *, with_arm: bool) -> list[str]:
    """What a report draws of a run whose manifest does not say it: the curves of the method as we ship it today."""
    method = method_classes().get(str(name), Method)
    return curve_names(method, with_arm=with_arm)
