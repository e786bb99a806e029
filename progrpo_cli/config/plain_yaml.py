"""Reading YAML that somebody else may have written: data, and nothing that would do something."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progrpo_cli.errors import RequestError
from progrpo_cli.untrusted import read_text

LARGEST = 32 << 20
"""Bytes of a file: a study of ten thousand trials has 3 MB."""
DEEPEST = 40
"""Mappings and lists inside one another: a configuration has 6."""

MAKES_OBJECTS = ("_target_", "_recursive_", "_convert_", "_args_", "_partial_")  # what Hydra's instantiate looks at


def read(path: Path) -> Any:
    """The content of a YAML file: mappings, lists and plain values.

    Raises:
        RequestError: it cannot be read, is no YAML, or asks for more than data (a tag, ``_target_``, ``${...}``).
    """
    import yaml

    try:
        content = parse(read_text(path, LARGEST))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise RequestError(f"{path} is not plain YAML: it is nested too deeply") from error
    except (ValueError, yaml.YAMLError) as error:
        raise RequestError(f"{path} is not plain YAML: {' '.join(str(error).split())[:200]}") from error
    refuse_what_is_not_data(content, str(path))
    return content


def parse(text: str) -> Any:
    """The content, if it is not much more than the text: an alias of a list of aliases can stand for any amount.

    Raises:
        ValueError: it is more, nested too deeply, contains itself, or merges mappings.
        yaml.YAMLError: it is no YAML.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # libyaml is ten times faster, where it is there
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _nodes(root, {}, 0) > len(text) + 1000:
            raise ValueError("its aliases stand for more than the file holds")
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _nodes(node: Any, known: dict[int, int | None], depth: int) -> int:
    """How many values a node stands for when its aliases are written out."""
    import yaml

    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise ValueError("an alias stands inside of what it names")
        return size
    known[id(node)] = None
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_nodes(part, known, depth + 1) for part in node.value)
    elif isinstance(node, yaml.MappingNode):
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise ValueError("mappings cannot be merged here (`<<`)")
        size += sum(_nodes(part, known, depth + 1) for pair in node.value for part in pair)
    known[id(node)] = size
    return size


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
