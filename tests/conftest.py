"""Fixtures that run the real command line."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import TINY, CommandLine


@pytest.fixture
def progrpo(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, dict[str, Path]]:
    """A GRPO and a ProGRPO run of a few updates, made once by the real command line. Tests must not change them."""
    command = CommandLine(tmp_path_factory.mktemp("trained"))
    runs = {}
    for method in ("grpo", "progrpo"):
        result = command.json("train", f"method={method}", *TINY)
        runs[method] = command.directory / result["run_dir"]
    return command, runs


@pytest.fixture
def log_as_before() -> Iterator[None]:
    """Restore our log after a test that sets it up as a command does."""
    log = logging.getLogger("progrpo")
    handlers, propagate, level = log.handlers, log.propagate, log.level
    yield
    log.handlers, log.propagate = handlers, propagate
    log.setLevel(level)
    logging.raiseExceptions = True
