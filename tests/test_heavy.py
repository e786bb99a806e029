"""Importing without the garbage collector."""

import gc
import importlib
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from progrpo_cli.heavy import heavy_imports


class Node:
    """Something to point at itself."""


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list]:
    """Import a new module of that name, and return what is in it."""
    monkeypatch.syspath_prepend(tmp_path)

    def come(name: str) -> list:
        (tmp_path / f"{name}.py").write_text("kept = [[] for _ in range(1000)]\n")
        return importlib.import_module(name).kept

    return come


def test_nothing_is_collected_while_imports_run_and_what_came_is_never_looked_at(come: Callable[[str], list]) -> None:
    with heavy_imports():
        assert not gc.isenabled()
        came = come("heavy_one")
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(came)


def test_garbage_of_before_is_not_kept_with_it(come: Callable[[str], list]) -> None:
    for name in ("heavy_two", "heavy_three"):
        node = Node()
        node.itself = node
        gone = weakref.ref(node)
        del node
        with heavy_imports():
            come(name)
        gc.collect()
        assert gone() is None


LEAKS = """
import sys, types
from progrpo_cli.heavy import heavy_imports
sys.path.insert(0, sys.argv[1])
with heavy_imports():
    import parts
sys.modules[sys.argv[2]] = types.ModuleType(sys.argv[2])
del sys.modules["parts"]
"""


@pytest.mark.parametrize(("module", "found"), [("triton", True), ("vllm", True), ("other", False)])
def test_what_reports_its_objects_at_the_end_has_them_collected_before(
    tmp_path: Path, module: str, found: bool
) -> None:
    """An object in a cycle, as the C++ parts of these have."""
    (tmp_path / "parts.py").write_text(
        "import os\nclass Part:\n def __del__(self, write=os.write): write(1, b'collected')\n"
        "part = Part()\npart.itself = part\ndel part\n"
    )
    done = subprocess.run([sys.executable, "-c", LEAKS, tmp_path, module], capture_output=True, text=True, check=True)
    assert done.stdout == ("collected" if found else "")


def test_where_nothing_is_new_nothing_is_frozen() -> None:
    """A worker comes here once a run: what a run leaves must stay what the collector looks at."""
    with heavy_imports():
        importlib.import_module("json")
    assert gc.get_freeze_count() == 0


def test_who_has_switched_it_off_keeps_it_off_whatever_the_imports_raise() -> None:
    gc.disable()
    with pytest.raises(ImportError), heavy_imports():
        raise ImportError
    assert not gc.isenabled()
