"""Importing without the garbage collector."""

import gc

import pytest

from progrpo_cli.heavy import heavy_imports


@pytest.fixture(autouse=True)
def collector():
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_while_imports_run_and_what_came_is_never_looked_at() -> None:
    gc.unfreeze()
    with heavy_imports():
        assert not gc.isenabled()
        came = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(came)


def test_who_has_switched_it_off_keeps_it_off_whatever_the_imports_raise() -> None:
    gc.disable()
    with pytest.raises(ImportError), heavy_imports():
        raise ImportError
    assert not gc.isenabled()
