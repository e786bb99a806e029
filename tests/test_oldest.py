"""`make test-oldest` installs the oldest versions that pyproject.toml allows, and they are compatible."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("tasks", "postgres", "slurm")
NEEDED = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in EXTRAS))
    for line in lines
]
PINS = {
    canonicalize_name(name): Version(version)
    for name, _, version in (
        line.partition("==")
        for line in (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
}


def test_every_dependency_is_pinned_at_its_lower_bound() -> None:
    assert PINS.keys() == {canonicalize_name(needed.name) for needed in NEEDED}
    for needed in NEEDED:
        pin = PINS[canonicalize_name(needed.name)]
        assert pin in needed.specifier, needed
        (bound,) = [part.version.removesuffix(".*") for part in needed.specifier if part.operator in (">=", "==")]
        release = Version(bound).release
        assert pin.release[: len(release)] == release, f"{needed} is pinned at {pin}"


@pytest.mark.long
def test_the_pins_are_compatible(tmp_path: Path) -> None:
    """pip resolves all packages with these pins; nothing is installed."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    package = f"{ROOT}[{','.join(EXTRAS)}]"
    done = subprocess.run(
        [*pip, "-c", ROOT / "constraints-oldest.txt", package], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
