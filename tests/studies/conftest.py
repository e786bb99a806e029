"""Fixtures for the tests of studies: storages and simulated studies."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from studies.postgresql import PostgreSQL
from studies.simulated import Study

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    yield server
    server.close()


@pytest.fixture(params=["journal", "postgresql", "sqlite"])
def study(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A simulated study on each kind of storage."""
    url = f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url = server.url(f"study{next(_numbers)}")
    return Study(tmp_path / "runs" / "simulated", url, 1 if request.param == "sqlite" else 3)
