"""The contract of ledgers, in files and in PostgreSQL, and leases."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from studies.postgresql import PostgreSQL

from progrpo_cli.errors import RequestError
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies.entry import Entry
from progrpo_cli.studies.ledger import FileLedger, Ledger, LostRun, SqlLedger

RUN = "0123456789ab-s0"
Open = Callable[[str], Ledger]


def sql_ledger(server: PostgreSQL, database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], SqlLedger]:
    import sqlalchemy

    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    url = server.url(database)

    def open_ledger(runs: Path, place: str) -> SqlLedger:
        ledger = SqlLedger(sqlalchemy.create_engine(url), "a study", runs, place)
        ledger.create_table()
        return ledger

    return open_ledger


@pytest.fixture(params=["files", "postgresql"])
def open_ledger(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Ledger]:
    """Returns a function that opens the same ledger for another worker on this machine."""
    if request.param == "files":
        return lambda: FileLedger(tmp_path / "ledger", tmp_path / "runs")
    make = sql_ledger(request.getfixturevalue("postgresql"), f"contract_{request.function.__name__}"[:60], monkeypatch)
    return lambda: make(tmp_path / "runs", "here")


def test_all_workers_read_what_one_writes(open_ledger: Callable[[], Ledger], tmp_path: Path) -> None:
    mine, other = open_ledger(), open_ledger()
    assert other.entries([RUN, "unknown"])[RUN].attempts == 0
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = mine.take(RUN)
        assert entry is not None
        assert entry.attempts == 1
        assert other.entries([RUN])[RUN].held
        mine.beat(RUN)
        mine.write(RUN, entry.model_copy(update={"failures": [("2026-01-01", "no reason")]}))
        mine.release(RUN)
    entry = other.entries([RUN])[RUN]
    assert (entry.attempts, entry.held, entry.failures) == (1, False, [("2026-01-01", "no reason")])
    other.reset_failures([RUN, "unknown"])
    assert mine.entries([RUN])[RUN].failures == []


FAILED = {"failures": [("2026-01-01", "no reason")], "deaths": 2}


@pytest.fixture
def ledgers(open_ledger: Callable[[], Ledger], tmp_path: Path) -> Iterator[tuple[Ledger, Ledger]]:
    """The ledgers of a worker that holds a run with earlier failures, and of another worker."""
    holder, other = open_ledger(), open_ledger()
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = holder.take(RUN)
        assert entry is not None
        holder.write(RUN, entry.model_copy(update=FAILED))
        yield holder, other
        holder.beat(RUN)  # the holder still holds the run after the test
        entry = holder.entries([RUN])[RUN]
        assert (entry.held, entry.attempts, entry.failures, entry.deaths) == (True, 1, FAILED["failures"], 2)
        holder.write(RUN, entry.model_copy(update={"result": {"values": {"pass@1": 0.25}}}))
        holder.release(RUN)
    assert other.entries([RUN])[RUN].result == {"values": {"pass@1": 0.25}}


def test_a_held_run_is_marked_as_held(ledgers: tuple[Ledger, Ledger]) -> None:
    assert ledgers[1].entries([RUN])[RUN].held


def test_a_held_run_is_not_taken(ledgers: tuple[Ledger, Ledger], tmp_path: Path) -> None:
    with pytest.raises(RequestError), RunDirectory(tmp_path / "runs" / RUN).lock():
        ledgers[1].take(RUN)


def test_another_worker_cannot_renew_the_lease(ledgers: tuple[Ledger, Ledger]) -> None:
    with pytest.raises(LostRun):
        ledgers[1].beat(RUN)


def test_another_worker_cannot_write_the_entry(ledgers: tuple[Ledger, Ledger]) -> None:
    with pytest.raises(LostRun):
        ledgers[1].write(RUN, Entry())


def test_another_worker_cannot_release_the_run(ledgers: tuple[Ledger, Ledger]) -> None:
    ledgers[1].release(RUN)


def test_failures_of_a_held_run_are_not_reset(ledgers: tuple[Ledger, Ledger]) -> None:
    ledgers[1].reset_failures([RUN])


def test_a_released_run_cannot_be_written(open_ledger: Callable[[], Ledger], tmp_path: Path) -> None:
    mine = open_ledger()
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = mine.take(RUN)
        assert entry is not None
        mine.release(RUN)
        for action in (lambda: mine.beat(RUN), lambda: mine.write(RUN, entry)):
            with pytest.raises(LostRun):
                action()


def test_a_run_that_completes_while_failures_are_reset_keeps_its_result(
    open_ledger: Callable[[], Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading and writing the entry, another worker takes and completes the run, if no lock prevents it."""
    directory = RunDirectory(tmp_path / "runs" / RUN)
    first, worker, resetting = open_ledger(), open_ledger(), open_ledger()
    with directory.lock():
        entry = first.take(RUN)
        assert entry is not None
        first.write(RUN, entry.model_copy(update=FAILED))
        first.release(RUN)
    copied, tries = Entry.model_copy, []

    def in_between(entry: Entry, *, update: dict) -> Entry:
        if update == {"failures": [], "deaths": 0}:
            tries.append(complete())
        return copied(entry, update=update)

    def complete() -> bool:
        try:
            with directory.lock():
                taken = worker.take(RUN)
                assert taken is not None
                worker.write(RUN, copied(taken, update={"result": {"values": {}}}))
                worker.release(RUN)
        except RequestError:  # the directory is locked until the failures are reset
            return False
        return True

    monkeypatch.setattr(Entry, "model_copy", in_between)
    resetting.reset_failures([RUN])
    monkeypatch.undo()
    assert len(tries) == 1
    entry = first.entries([RUN])[RUN]
    completed = (entry.result, entry.failures) == ({"values": {}}, FAILED["failures"])
    assert completed if tries[0] else (entry.result, entry.failures, entry.deaths) == (None, [], 0)


def test_the_run_of_a_dead_worker_can_be_taken_at_once(open_ledger: Callable[[], Ledger], tmp_path: Path) -> None:
    dead, living = open_ledger(), open_ledger()
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        dead.take(RUN)
    # As after kill -9, the lock is released and nothing else has happened.
    assert not living.entries([RUN])[RUN].held
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = living.take(RUN)
    assert entry is not None
    assert entry.attempts == 2


def test_a_complete_run_stays_complete(open_ledger: Callable[[], Ledger], tmp_path: Path) -> None:
    mine = open_ledger()
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = mine.take(RUN)
        assert entry is not None
        mine.write(RUN, entry.model_copy(update={"result": {"values": {"pass@1": 0.25}}}))
        assert not mine.entries([RUN])[RUN].held  # only unfinished runs are marked as held
        mine.release(RUN)
    assert open_ledger().entries([RUN])[RUN].result == {"values": {"pass@1": 0.25}}


def test_deaths_are_counted_in_a_row_and_only_without_progress(
    open_ledger: Callable[[], Ledger], tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "runs" / RUN)

    def begin() -> Entry:
        with run.lock():
            entry = open_ledger().take(RUN)
        assert entry is not None
        return entry

    assert begin().deaths == 0
    assert begin().deaths == 1  # the worker died before it had written anything
    run.metrics_path.write_text('{"step": 1}\n' * 5)
    assert begin().deaths == 0  # the worker made progress
    assert begin().deaths == 1
    run.metrics_path.write_text('{"step": 1}\n' * 3)  # it continued from a checkpoint, but got less far than before
    assert begin().deaths == 2
    samples = run.path / "eval" / "countdown-x" / "samples.jsonl"
    samples.parent.mkdir(parents=True)
    samples.write_text("{}\n" * 10)
    assert begin().deaths == 0
    assert begin().deaths == 1
    with run.lock():
        ledger = open_ledger()
        entry = ledger.take(RUN)
        assert entry is not None
        assert entry.deaths == 2
        ledger.write(RUN, entry.model_copy(update={"under_way": False}))  # told to stop
        ledger.release(RUN)
    assert begin().deaths == 2
    open_ledger().reset_failures([RUN])
    assert open_ledger().entries([RUN])[RUN].deaths == 0


def test_a_lease_expires_without_heartbeats(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two directories and two places stand for two machines that share no directory."""
    open_ledger = sql_ledger(postgresql, "lease", monkeypatch)
    here, there = open_ledger(tmp_path / "here", "here"), open_ledger(tmp_path / "there", "there")
    entry = here.take(RUN)
    assert entry is not None
    assert there.take(RUN) is None
    assert there.entries([RUN])[RUN].held
    here._execute("UPDATE progrpo_runs SET beat = clock_timestamp() - interval '119 seconds' WHERE study = :study")
    assert there.take(RUN) is None
    here.beat(RUN)
    here._execute("UPDATE progrpo_runs SET beat = clock_timestamp() - interval '121 seconds' WHERE study = :study")
    assert not there.entries([RUN])[RUN].held
    taken = there.take(RUN)
    assert taken is not None
    assert taken.attempts == 2
    with pytest.raises(LostRun):  # a worker that was asleep cannot write its result
        here.write(RUN, entry.model_copy(update={"result": {}}))
    with pytest.raises(LostRun):
        here.beat(RUN)
    here.release(RUN)
    assert there.entries([RUN])[RUN].worker == taken.worker


def test_when_a_run_may_be_tried() -> None:
    early, late = ("2026-01-01", "no room"), ("2026-02-01", "no room")
    assert Entry().may_be_tried(retries=0)
    assert not Entry(result={"values": {}}).may_be_tried(retries=9)
    assert not Entry(pruned="too low").may_be_tried(retries=9)
    assert Entry(failures=[early, early]).may_be_tried(retries=2)
    assert not Entry(failures=[early, early]).may_be_tried(retries=1)
    # Workers of the same command try it at most twice, however many retries the space allows.
    assert Entry(failures=[early, early, late]).may_be_tried(retries=9, since="2026-01-15")
    assert not Entry(failures=[early, late, late]).may_be_tried(retries=9, since="2026-01-15")
