"""Where configurations are looked for by name: among those that we ship, and in a folder of the user's own."""

from __future__ import annotations

from pathlib import Path

from progrpo_cli.config import paths, plain_yaml
from progrpo_cli.errors import RequestError, nearest

GROUPS = ("experiment", "method", "model", "task")
SPACES = "sweeps"


def checked(folder: Path | None) -> Path | None:
    """The folder that ``--config-dir`` names, as an absolute path; None: none was named.

    It has some of the groups of ``experiments/``, and spaces in ``sweeps/``. A name that we ship cannot be given again.

    Raises:
        RequestError: it is no such folder, or a file in it has a name that is taken or is more than data.
    """
    if folder is None:
        return None
    if not folder.is_dir():
        raise RequestError(f"--config-dir {folder}: no such folder")
    if not any((folder / group).is_dir() for group in (*GROUPS, SPACES)):
        raise RequestError(f"--config-dir {folder}: has none of the folders {', '.join((*GROUPS, SPACES))}")
    for group in (*GROUPS, SPACES):
        shipped = paths.names(_shipped(group))
        for name in paths.names(folder / group):
            path = folder / group / f"{name}.yaml"
            if name in shipped:
                raise RequestError(f"{path}: progrpo ships {group}/{name}.yaml; give yours another name")
            plain_yaml.read(path)
    return folder.resolve()


def names(group: str, folder: Path | None = None) -> list[str]:
    """The names in a group of ``experiments/``, or in ``sweeps``: those that we ship and those of the user's folder."""
    return sorted([*paths.names(_shipped(group)), *(paths.names(folder / group) if folder is not None else [])])


def path_of(group: str, name: str, folder: Path | None = None) -> Path:
    """The file of a name.

    Raises:
        RequestError: there is none; the nearest name is in the message.
    """
    for place in (_shipped(group), *([folder / group] if folder is not None else [])):
        if name in paths.names(place):
            return place / f"{name}.yaml"
    what = "space" if group == SPACES else group
    raise RequestError(f"unknown {what} {name!r}{nearest(name, names(group, folder))}")


def _shipped(group: str) -> Path:
    return paths.SWEEPS if group == SPACES else paths.EXPERIMENTS / group
