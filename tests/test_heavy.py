"""Imports with the garbage collector disabled."""

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
    """An object that refers to itself."""


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def import_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list]:
    """A function that imports a new module with that name, and returns the objects in it."""
    monkeypatch.syspath_prepend(tmp_path)

    def import_new(name: str) -> list:
        (tmp_path / f"{name}.py").write_text("objects = [[] for _ in range(1000)]\n")
        return importlib.import_module(name).objects

    return import_new


def test_the_collector_is_off_during_imports_and_their_objects_are_frozen(import_new: Callable[[str], list]) -> None:
    with heavy_imports():
        assert not gc.isenabled()
        objects = import_new("heavy_one")
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(objects)


def test_existing_garbage_is_not_frozen(import_new: Callable[[str], list]) -> None:
    for name in ("heavy_two", "heavy_three"):
        node = Node()
        node.itself = node
        reference = weakref.ref(node)
        del node
        with heavy_imports():
            import_new(name)
        gc.collect()
        assert reference() is None


LEAKS = """
import sys, types
from progrpo_cli.heavy import heavy_imports
sys.path.insert(0, sys.argv[1])
with heavy_imports():
    import parts
sys.modules[sys.argv[2]] = types.ModuleType(sys.argv[2])
del sys.modules["parts"]
"""


@pytest.mark.parametrize(("module", "collected"), [("triton", True), ("vllm", True), ("other", False)])
def test_objects_are_collected_at_exit_with_modules_that_report_leaks(
    tmp_path: Path, module: str, collected: bool
) -> None:
    """The object is in a reference cycle, like those of the modules' C++ parts."""
    (tmp_path / "parts.py").write_text(
        "import os\nclass Part:\n def __del__(self, write=os.write): write(1, b'collected')\n"
        "part = Part()\npart.itself = part\ndel part\n"
    )
    done = subprocess.run([sys.executable, "-c", LEAKS, tmp_path, module], capture_output=True, text=True, check=True)
    assert done.stdout == ("collected" if collected else "")


def test_nothing_is_frozen_without_new_modules() -> None:
    """A worker calls this once per run, and the collector has to find what a run leaves."""
    with heavy_imports():
        importlib.import_module("json")
    assert gc.get_freeze_count() == 0


def test_a_disabled_collector_stays_disabled_after_an_import_error() -> None:
    gc.disable()
    with pytest.raises(ImportError), heavy_imports():
        raise ImportError
    assert not gc.isenabled()
