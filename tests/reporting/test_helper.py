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
from progrpo_cli.reporting.reading.parallel import WORTH_A_PROCESS, Helper, helper


def who(number: int, directory: Path) -> tuple[int, int]:
    """The job's number and who did it; only when two are at work does anybody get on."""
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


def who_did(path: Path) -> int:
    with path.open("a") as file:
        file.write("x")
    return os.getpid()


def fails_or_counts(number: int, directory: Path) -> None:
    if number == 99:
        raise KeyboardInterrupt
    (directory / str(number)).touch()
    time.sleep(0.1)


def dies(ours: int) -> None:
    """In the other process; this one waits for it."""
    if os.getpid() != ours:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(2)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)


@contextmanager
def started(runs: int = WORTH_A_PROCESS) -> Iterator[Helper]:
    with helper() as made:
        made.start(runs)
        yield made


@pytest.fixture
def both() -> Iterator[Helper]:
    with started() as made:
        yield made


def test_two_share_the_jobs_of_a_large_report(both: Helper, tmp_path: Path) -> None:
    end = both.begin(partial(who, number, tmp_path) for number in range(8))
    done = end()
    assert [number for number, _ in done] == list(range(8))
    workers = [process for _, process in done]
    assert workers[-1] == os.getpid() != workers[0]
    assert len(set(workers)) == 2


def test_a_job_that_takes_long_there_holds_up_no_other(both: Helper, tmp_path: Path) -> None:
    """What waits in a pool's queue cannot be taken back, so nothing may wait there."""
    jobs = [partial(waits_for, tmp_path / "last", os.getpid()), *[partial(who_did, tmp_path / "last")] * 7]
    first, *others = both.begin(jobs)()
    assert first != os.getpid()
    assert others == [os.getpid()] * 7


def test_jobs_begun_twice_end_in_any_order(both: Helper) -> None:
    first, second = (both.begin(partial(abs, -number) for number in range(low, low + 50)) for low in (0, 50))
    assert second() == list(range(50, 100))
    assert first() == list(range(50))
    assert both.begin([])() == []


@pytest.mark.parametrize("alone", ["few runs", "one core"])
def test_a_small_report_and_one_core_have_no_second_process(alone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if alone == "one core":
        monkeypatch.setattr(module.os, "cpu_count", lambda: 1)
    runs = WORTH_A_PROCESS - (alone == "few runs")
    with started(runs) as made:
        assert made.begin([os.getpid] * 3)() == [os.getpid()] * 3


@pytest.mark.parametrize("position", [0, 7])
def test_what_goes_wrong_there_is_raised_here(position: int) -> None:
    jobs = [fails if number == position else os.getpid for number in range(8)]
    with pytest.raises(OSError, match="no space"), started() as made:
        made.begin(jobs)()


def test_what_goes_wrong_here_waits_for_no_job_there(tmp_path: Path) -> None:
    jobs = [partial(fails_or_counts, number, tmp_path) for number in range(100)]
    with pytest.raises(KeyboardInterrupt), started() as made:
        made.begin(jobs)()
    assert len(list(tmp_path.iterdir())) < 10


# Python before 3.11.8 complains in its own thread about jobs that were taken back.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_helper_is_one_line() -> None:
    with pytest.raises(WorkError, match="was killed"), started() as made:
        made.begin([partial(dies, os.getpid())] * 20)()
