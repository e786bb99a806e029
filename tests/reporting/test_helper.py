"""Figures of a large report are drawn by two processes."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from progrpo_cli.errors import WorkError
from progrpo_cli.reporting import helper as module
from progrpo_cli.reporting.helper import WORTH_A_PROCESS, helper


def who(number: int, directory: Path) -> tuple[int, int]:
    """The job's number and who did it; only when two are at work does anybody get on."""
    (directory / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(directory.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return number, os.getpid()


def fails() -> None:
    raise OSError("no space left")


def dies(ours: int) -> None:
    """In the other process; this one waits for it."""
    if os.getpid() != ours:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(2)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)


def test_two_share_the_jobs_of_a_large_report(tmp_path: Path) -> None:
    with helper(WORTH_A_PROCESS) as begin:
        end = begin(partial(who, number, tmp_path) for number in range(8))
        done = end()
    assert [number for number, _ in done] == list(range(8))
    workers = [process for _, process in done]
    assert workers[-1] == os.getpid() != workers[0]
    assert len(set(workers)) == 2


@pytest.mark.parametrize("alone", ["few runs", "one core"])
def test_a_small_report_and_one_core_have_no_second_process(alone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if alone == "one core":
        monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    with helper(WORTH_A_PROCESS - (alone == "few runs")) as begin:
        assert begin([os.getpid] * 3)() == [os.getpid()] * 3


@pytest.mark.parametrize("position", [0, 7])
def test_what_goes_wrong_there_is_raised_here(position: int) -> None:
    jobs = [fails if number == position else os.getpid for number in range(8)]
    with pytest.raises(OSError, match="no space"), helper(WORTH_A_PROCESS) as begin:
        begin(jobs)()


# Python before 3.11.8 complains in its own thread about jobs that were taken back.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_helper_is_one_line() -> None:
    with pytest.raises(WorkError, match="was killed"), helper(WORTH_A_PROCESS) as begin:
        begin([partial(dies, os.getpid())] * 20)()
