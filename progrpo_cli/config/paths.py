"""Where the shipped configurations and assets are: in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = _PACKAGE / "_configurations"  # made by the wheel build, see pyproject.toml

CONFIGURATIONS = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parent
EXPERIMENTS = CONFIGURATIONS / "experiments"
SWEEPS = CONFIGURATIONS / "sweeps"
ASSETS = _PACKAGE / "assets"

RUNS = Path("runs")
"""Where runs, studies and evaluations of models are, below the working directory."""

LAB_BASE = "progrpo/lab-base"
SMOLLM2 = "progrpo/smollm2-135m"


def names(group: Path) -> list[str]:
    """The names of the YAML files below ``group``, sorted, with ``/`` between folders and without the suffix."""
    return sorted(path.relative_to(group).with_suffix("").as_posix() for path in group.rglob("*.yaml"))
