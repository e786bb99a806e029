"""Look up classes by name: this package's own, and those that other installed packages provide as entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar, get_args

from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.section import Section

Class = TypeVar("Class", bound=Section)


@dataclass(frozen=True)
class Catalogue(Generic[Class]):
    """The classes that a name in a configuration can refer to. Other packages' classes are imported on demand."""

    noun: str
    """The word for one of the classes, used in messages."""
    group: str
    """The group of the entry points."""
    base: type[Class]
    """The base class that every class has to inherit from."""
    field: str
    """The field that holds the name; its type in each class is ``Literal[name]``."""
    shipped: Callable[[], Mapping[str, type[Class]]]  # this package's own classes by name

    def is_shipped(self, name: str) -> bool:
        """Whether this package has a class of that name."""
        return name in self.shipped()

    def find(self, name: str) -> type[Class]:
        """Return the class of that name. This package's own classes take precedence.

        Raises:
            RequestError: there is no class of that name, or another package's class cannot be used.
        """
        cls = self.shipped().get(name) or _load(self.group, name, self.base, self.field)
        if cls is None:
            raise RequestError(
                f"no {self.noun} {name!r} is installed{nearest(name, [*self.shipped(), *_names(self.group)])}"
            )
        return cls


@cache
def _names(group: str) -> tuple[str, ...]:
    from importlib import metadata

    return tuple(sorted(metadata.entry_points(group=group).names))


@cache
def _load(group: str, name: str, base: type[Class], field: str) -> type[Class] | None:
    from importlib import metadata

    points = list(metadata.entry_points(group=group, name=name))
    if not points:
        return None
    if len({point.value for point in points}) > 1:
        targets = " and ".join(point.value for point in points)
        raise RequestError(f"two installed packages have the entry point {name!r} of {group}: {targets}")
    where = f"entry point {name!r} of {group} ({points[0].value})"
    try:
        cls = points[0].load()
    except Exception as error:  # the import runs somebody else's code, which may raise anything
        raise RequestError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise RequestError(f"{where} is not a subclass of {base.__module__}.{base.__name__}")
    if get_args(cls.model_fields[field].annotation) != (name,):
        raise RequestError(f'{where}: the type of its field {field!r} has to be Literal["{name}"]')
    return cls
