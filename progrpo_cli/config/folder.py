"""Find configurations by name: among the shipped ones, and in the user's own folder (``--config-dir``)."""

from __future__ import annotations

from pathlib import Path

from progrpo_cli.config import paths, plain_yaml
from progrpo_cli.errors import RequestError, nearest

GROUPS = ("experiment", "method", "model", "task")
SPACES = "sweeps"


def resolve(folder: Path | None) -> Path | None:
    """Check the folder of ``--config-dir`` and return its absolute path, or None without the option.

    It may have the groups of ``experiments/``, and spaces in ``sweeps/``. Names of shipped files are taken.

    Raises:
        RequestError: it has none of these, or a file in it has a shipped name or holds more than data.
    """
    if folder is None:
        return None
    if not folder.is_dir():
        raise RequestError(f"--config-dir {folder}: no such folder")
    if not any((folder / group).is_dir() for group in (*GROUPS, SPACES)):
        raise RequestError(f"--config-dir {folder}: it has none of the folders {', '.join((*GROUPS, SPACES))}")
    for group in (*GROUPS, SPACES):
        shipped = paths.names(_shipped(group))
        for name in paths.names(folder / group):
            path = folder / group / f"{name}.yaml"
            if name in shipped:
                raise RequestError(f"{path}: progrpo ships {group}/{name}.yaml; give yours another name")
            plain_yaml.read(path)
    return folder.resolve()


def names(group: str, folder: Path | None = None) -> list[str]:
    """Return the names in a group of ``experiments/``, or in ``sweeps``: the shipped ones and the user's."""
    return sorted([*paths.names(_shipped(group)), *(paths.names(folder / group) if folder is not None else [])])


def path_of(group: str, name: str, folder: Path | None = None) -> Path:
    """Return the file of a name.

    Raises:
        RequestError: there is none; the message suggests the nearest name.
    """
    for directory in (_shipped(group), *([folder / group] if folder is not None else [])):
        if name in paths.names(directory):
            return directory / f"{name}.yaml"
    noun = "space" if group == SPACES else group
    raise RequestError(f"unknown {noun} {name!r}{nearest(name, names(group, folder))}")


def _shipped(group: str) -> Path:
    return paths.SWEEPS if group == SPACES else paths.EXPERIMENTS / group
