"""Runs of a large report are read, and its figures drawn, by two processes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from progrpo_cli.errors import WorkError
from progrpo_cli.reporting.reading import parallel as module
from progrpo_cli.reporting.reading.parallel import WORTH_A_PROCESS, Helper, open_helper


def job_and_process(number: int, directory: Path) -> tuple[int, int]:
    """The job's number and its process; waits until two processes have taken a job."""
    (directory / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(directory.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return number, os.getpid()


def fails() -> None:
    raise OSError("no space left")


def waits_for(path: Path, ours: int) -> int:
    deadline = time.monotonic() + 60
    while os.getpid() != ours and len(path.read_text() if path.exists() else "") < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    return os.getpid()


def process_of_job(path: Path) -> int:
    with path.open("a") as file:
        file.write("x")
    return os.getpid()


def fails_or_touches(number: int, directory: Path) -> None:
    if number == 99:
        raise KeyboardInterrupt
    (directory / str(number)).touch()
    time.sleep(0.1)


def dies(ours: int) -> None:
    """Kill the other process; this one waits for it."""
    if os.getpid() != ours:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(2)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)


@contextmanager
def started_helper(runs: int = WORTH_A_PROCESS) -> Iterator[Helper]:
    with open_helper() as helper:
        helper.start(runs)
        yield helper


@pytest.fixture
def helper() -> Iterator[Helper]:
    with started_helper() as helper:
        yield helper


def test_two_processes_share_the_jobs_of_a_large_report(helper: Helper, tmp_path: Path) -> None:
    finish = helper.begin(partial(job_and_process, number, tmp_path) for number in range(8))
    results = finish()
    assert [number for number, _ in results] == list(range(8))
    workers = [process for _, process in results]
    assert workers[-1] == os.getpid() != workers[0]
    assert len(set(workers)) == 2


def test_a_long_job_of_the_other_process_delays_no_other_job(helper: Helper, tmp_path: Path) -> None:
    """A job in a pool's queue cannot be taken back, so no job may wait there."""
    jobs = [partial(waits_for, tmp_path / "last", os.getpid()), *[partial(process_of_job, tmp_path / "last")] * 7]
    first, *others = helper.begin(jobs)()
    assert first != os.getpid()
    assert others == [os.getpid()] * 7


def test_two_sets_of_jobs_can_be_finished_in_any_order(helper: Helper) -> None:
    first, second = (helper.begin(partial(abs, -number) for number in range(low, low + 50)) for low in (0, 50))
    assert second() == list(range(50, 100))
    assert first() == list(range(50))
    assert helper.begin([])() == []


@pytest.mark.parametrize("alone", ["few runs", "one core"])
def test_no_second_process_for_a_small_report_or_one_core(alone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if alone == "one core":
        monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    runs = WORTH_A_PROCESS - (alone == "few runs")
    with started_helper(runs) as helper:
        assert helper.begin([os.getpid] * 3)() == [os.getpid()] * 3


@pytest.mark.parametrize("position", [0, 7])
def test_an_error_of_the_other_process_is_raised(position: int) -> None:
    jobs = [fails if number == position else os.getpid for number in range(8)]
    with pytest.raises(OSError, match="no space"), started_helper() as helper:
        helper.begin(jobs)()


def test_an_error_here_does_not_wait_for_the_other_process(tmp_path: Path) -> None:
    jobs = [partial(fails_or_touches, number, tmp_path) for number in range(100)]
    with pytest.raises(KeyboardInterrupt), started_helper() as helper:
        helper.begin(jobs)()
    assert len(list(tmp_path.iterdir())) < 10


# Before 3.11.8 Python's own thread reports an error about cancelled jobs.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_helper_gives_a_one_line_error() -> None:
    with pytest.raises(WorkError, match="was killed"), started_helper() as helper:
        helper.begin([partial(dies, os.getpid())] * 20)()
