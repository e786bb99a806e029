"""Tests that run programs in bubblewrap: skipped where it cannot be used, unless PROGRPO_TEST_SANDBOX says that it can."""

import os

import pytest

from progrpo_cli.tasks.code import sandbox


def require_bubblewrap() -> None:
    problem = sandbox._what_is_wrong()
    if problem and not os.environ.get("PROGRPO_TEST_SANDBOX"):
        pytest.skip(problem)
