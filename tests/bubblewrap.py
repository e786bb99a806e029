"""Tests that use bubblewrap: skipped where it does not work, unless PROGRPO_TEST_SANDBOX says that it has to."""

import os

import pytest

from progrpo_cli.tasks.code import bubblewrap


def require_bubblewrap() -> None:
    problem = bubblewrap.find_problem()
    if problem and not os.environ.get("PROGRPO_TEST_SANDBOX"):
        pytest.skip(problem)
