"""Read YAML files that may come from somebody else. Only plain data is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progrpo_cli.errors import RequestError
from progrpo_cli.untrusted import read_text

LARGEST = 32 << 20
"""Maximum size of a file in bytes. The file of a study with ten thousand trials has 3 MB."""
DEEPEST = 40
"""Maximum depth of nested mappings and lists. A configuration has 6."""

INSTANTIATE_KEYS = ("_target_", "_recursive_", "_convert_", "_args_", "_partial_")  # Hydra's instantiate acts on them


def read(path: Path) -> Any:
    """Return the content of a YAML file: mappings, lists and plain values.

    Raises:
        RequestError: it cannot be read, is not YAML, or holds more than data (a tag, ``_target_``, ``${...}``).
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
    refuse_code(content, str(path))
    return content


def parse(text: str) -> Any:
    """Parse YAML, and refuse text whose aliases expand to much more than the text itself.

    Raises:
        ValueError: the content expands too much, is nested too deeply, contains itself, or merges mappings.
        yaml.YAMLError: it is not YAML.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)  # libyaml, if available, is ten times faster
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _count_values(root, {}, 0) > len(text) + 1000:
            raise ValueError("its aliases expand to more than the file holds")
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _count_values(node: Any, sizes: dict[int, int | None], depth: int) -> int:
    """Count the values below a node with its aliases expanded.

    ``sizes`` holds the counts of nodes seen before, by identity; None: the node is being counted.
    """
    import yaml

    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise ValueError("an alias refers to a value that contains it")
        return size
    sizes[id(node)] = None
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_count_values(item, sizes, depth + 1) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise ValueError("mappings cannot be merged here (`<<`)")
        size += sum(_count_values(item, sizes, depth + 1) for pair in node.value for item in pair)
    sizes[id(node)] = size
    return size


def refuse_code(content: Any, where: str) -> None:
    """Raise RequestError, naming ``where`` and the key, if a value would create an object or is an interpolation."""
    seen: set[int] = set()  # an anchor may be used a thousand times, but is checked once

    def check(value: Any, key: str) -> None:
        if isinstance(value, str) and "${" in value:
            raise RequestError(f"{where}: {key or 'the value'}: interpolations (${{...}}) are not allowed here")
        if isinstance(value, Mapping | list):
            if id(value) in seen:
                return
            seen.add(id(value))
        if isinstance(value, Mapping):
            for name, item in value.items():
                inner = f"{key}.{name}".lstrip(".")
                if name in INSTANTIATE_KEYS:
                    raise RequestError(f"{where}: {inner}: a configuration holds values; it cannot create objects")
                check(name, inner)
                check(item, inner)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                check(item, f"{key}[{index}]")

    check(content, "")
