"""Importing without the garbage collector."""

import gc
import importlib
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
