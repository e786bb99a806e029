"""Skip tests if bubblewrap does not work, unless PROGRPO_TEST_SANDBOX is set."""

import os

import pytest

from progrpo_cli.tasks.code import bubblewrap


def require_bubblewrap() -> None:
    problem = bubblewrap.find_problem()
    if problem and not os.environ.get("PROGRPO_TEST_SANDBOX"):
        pytest.skip(problem)
