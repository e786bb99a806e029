"""Paths of the shipped configurations and assets, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "_configurations"  # made by the wheel build, see pyproject.toml

CONFIGURATIONS = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent
EXPERIMENTS = CONFIGURATIONS / "experiments"
SWEEPS = CONFIGURATIONS / "sweeps"
ASSETS = _PACKAGE / "assets"

RUNS = Path("runs")
"""The directory of runs, studies and evaluations of models, relative to the working directory."""

LAB_BASE = "progrpo/lab-base"
SMOLLM2 = "progrpo/smollm2-135m"


def names(group: Path) -> list[str]:
    """Return the sorted names of the YAML files below ``group``: relative paths with ``/``, without the suffix."""
    return sorted(path.relative_to(group).with_suffix("").as_posix() for path in group.rglob("*.yaml"))
