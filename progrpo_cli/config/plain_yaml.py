"""Reading YAML that somebody else may have written: data, and nothing that would do something."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progrpo_cli.errors import RequestError

MAKES_OBJECTS = ("_target_", "_recursive_", "_convert_", "_args_", "_partial_")  # what Hydra's instantiate looks at


def read(path: Path) -> Any:
    """The content of a YAML file: mappings, lists and plain values.

    Raises:
        RequestError: it cannot be read, is no YAML, or asks for more than data (a tag, ``_target_``, ``${...}``).
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise RequestError(f"{path} is not plain YAML: {' '.join(str(error).split())[:200]}") from error
    refuse_what_is_not_data(content, str(path))
    return content


def refuse_what_is_not_data(content: Any, where: str) -> None:
    """Raise RequestError, naming ``where`` and the key, if a value would make an object or is an interpolation."""
    seen: set[int] = set()  # an anchor may be used a thousand times: it is looked at once

    def look(value: Any, key: str) -> None:
        if isinstance(value, str) and "${" in value:
            raise RequestError(f"{where}: {key or 'the value'}: interpolations (${{...}}) are not taken from here")
        if isinstance(value, Mapping | list):
            if id(value) in seen:
                return
            seen.add(id(value))
        if isinstance(value, Mapping):
            for name, below in value.items():
                inner = f"{key}.{name}".lstrip(".")
                if name in MAKES_OBJECTS:
                    raise RequestError(f"{where}: {inner}: a configuration holds values; it cannot make objects")
                look(name, inner)
                look(below, inner)
        elif isinstance(value, list):
            for index, below in enumerate(value):
                look(below, f"{key}[{index}]")

    look(content, "")
