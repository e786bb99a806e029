"""The contract of a ledger, in files and in PostgreSQL; and what a lease is for."""

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
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Ledger]:
    """Opens the same ledger again and again, as other workers of this machine would."""
    if request.param == "files":
        return lambda: FileLedger(tmp_path / "ledger", tmp_path / "runs")
    make = sql_ledger(request.getfixturevalue("postgresql"), f"contract_{request.function.__name__}"[:60], monkeypatch)
    return lambda: make(tmp_path / "runs", "here")


def test_what_one_writes_all_read(opened: Callable[[], Ledger], tmp_path: Path) -> None:
    mine, other = opened(), opened()
    assert other.entries([RUN, "unknown"])[RUN].attempts == 0
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = mine.take(RUN)
        assert entry is not None
        assert entry.attempts == 1
        assert other.entries([RUN])[RUN].held
        mine.beat(RUN)
        mine.write(RUN, entry.model_copy(update={"failures": [("2026-01-01", "no reason")]}))
        mine.release(RUN)
    found = other.entries([RUN])[RUN]
    assert (found.attempts, found.held, found.failures) == (1, False, [("2026-01-01", "no reason")])
    other.reset_failures([RUN, "unknown"])
    assert mine.entries([RUN])[RUN].failures == []


FAILED = {"failures": [("2026-01-01", "no reason")], "deaths": 2}


@pytest.fixture
def held(opened: Callable[[], Ledger], tmp_path: Path) -> Iterator[tuple[Ledger, Ledger]]:
    """The ledgers of a worker that is at a run which has failed before, and of somebody else."""
    holder, other = opened(), opened()
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = holder.take(RUN)
        assert entry is not None
        holder.write(RUN, entry.model_copy(update=FAILED))
        yield holder, other
        holder.beat(RUN)  # whatever others did, it is still the holder's
        entry = holder.entries([RUN])[RUN]
        assert (entry.held, entry.attempts, entry.failures, entry.deaths) == (True, 1, FAILED["failures"], 2)
        holder.write(RUN, entry.model_copy(update={"result": {"values": {"pass@1": 0.25}}}))
        holder.release(RUN)
    assert other.entries([RUN])[RUN].result == {"values": {"pass@1": 0.25}}


def test_a_holder_is_seen(held: tuple[Ledger, Ledger]) -> None:
    assert held[1].entries([RUN])[RUN].held


def test_a_held_run_is_not_taken(held: tuple[Ledger, Ledger], tmp_path: Path) -> None:
    with pytest.raises(RequestError), RunDirectory(tmp_path / "runs" / RUN).lock():
        held[1].take(RUN)


def test_nobody_else_beats_for_a_holder(held: tuple[Ledger, Ledger]) -> None:
    with pytest.raises(LostRun):
        held[1].beat(RUN)


def test_nobody_else_writes_what_is_held(held: tuple[Ledger, Ledger]) -> None:
    with pytest.raises(LostRun):
        held[1].write(RUN, Entry())


def test_nobody_else_releases_what_is_held(held: tuple[Ledger, Ledger]) -> None:
    held[1].release(RUN)


def test_failures_of_a_held_run_are_not_reset(held: tuple[Ledger, Ledger]) -> None:
    held[1].reset_failures([RUN])


def test_what_was_released_is_no_longer_ours_to_write(opened: Callable[[], Ledger], tmp_path: Path) -> None:
    mine = opened()
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = mine.take(RUN)
        assert entry is not None
        mine.release(RUN)
        for action in (lambda: mine.beat(RUN), lambda: mine.write(RUN, entry)):
            with pytest.raises(LostRun):
                action()


def test_a_run_that_is_done_while_failures_are_reset_keeps_its_result(
    opened: Callable[[], Ledger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the writing somebody else takes the run and completes it, if nothing keeps it out."""
    directory = RunDirectory(tmp_path / "runs" / RUN)
    first, worker, resetting = opened(), opened(), opened()
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
        except RequestError:  # it has to wait until the failures are reset
            return False
        return True

    monkeypatch.setattr(Entry, "model_copy", in_between)
    resetting.reset_failures([RUN])
    monkeypatch.undo()
    assert len(tries) == 1
    now = first.entries([RUN])[RUN]
    completed = (now.result, now.failures) == ({"values": {}}, FAILED["failures"])
    assert completed if tries[0] else (now.result, now.failures, now.deaths) == (None, [], 0)


def test_a_dead_holders_run_is_taken_over_at_once(opened: Callable[[], Ledger], tmp_path: Path) -> None:
    dead, living = opened(), opened()
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        dead.take(RUN)
    # The lock is gone, and nothing else was done: as after kill -9.
    assert not living.entries([RUN])[RUN].held
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = living.take(RUN)
    assert entry is not None
    assert entry.attempts == 2


def test_a_complete_run_stays_complete(opened: Callable[[], Ledger], tmp_path: Path) -> None:
    mine = opened()
    with RunDirectory(tmp_path / "runs" / RUN).lock():
        entry = mine.take(RUN)
        assert entry is not None
        mine.write(RUN, entry.model_copy(update={"result": {"values": {"pass@1": 0.25}}}))
        assert not mine.entries([RUN])[RUN].held  # held is about runs that are still to be done
        mine.release(RUN)
    assert opened().entries([RUN])[RUN].result == {"values": {"pass@1": 0.25}}


def test_deaths_count_in_a_row_and_only_without_progress(opened: Callable[[], Ledger], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "runs" / RUN)

    def begin() -> Entry:
        with run.lock():
            entry = opened().take(RUN)
        assert entry is not None
        return entry

    assert begin().deaths == 0
    assert begin().deaths == 1  # it died before it had written anything
    run.metrics_path.write_text('{"step": 1}\n' * 5)
    assert begin().deaths == 0  # it got somewhere
    assert begin().deaths == 1
    run.metrics_path.write_text('{"step": 1}\n' * 3)  # from its last checkpoint, and not as far as before
    assert begin().deaths == 2
    samples = run.path / "eval" / "countdown-x" / "samples.jsonl"
    samples.parent.mkdir(parents=True)
    samples.write_text("{}\n" * 10)
    assert begin().deaths == 0
    assert begin().deaths == 1
    with run.lock():
        ledger = opened()
        entry = ledger.take(RUN)
        assert entry is not None
        assert entry.deaths == 2
        ledger.write(RUN, entry.model_copy(update={"under_way": False}))  # told to stop
        ledger.release(RUN)
    assert begin().deaths == 2
    opened().reset_failures([RUN])
    assert opened().entries([RUN])[RUN].deaths == 0


def test_a_lease_keeps_machines_apart_until_its_heart_stops(
    postgresql: PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines that share no directory: here two directories, and two places."""
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
    with pytest.raises(LostRun):  # it was only asleep: what it did is not counted, the run is done once
        here.write(RUN, entry.model_copy(update={"result": {}}))
    with pytest.raises(LostRun):
        here.beat(RUN)
    here.release(RUN)
    assert there.entries([RUN])[RUN].worker == taken.worker


def test_whether_a_run_may_be_tried_again_is_one_rule() -> None:
    early, late = ("2026-01-01", "no room"), ("2026-02-01", "no room")
    assert Entry().may_be_tried(retries=0)
    assert not Entry(result={"values": {}}).may_be_tried(retries=9)
    assert not Entry(pruned="too low").may_be_tried(retries=9)
    assert Entry(failures=[early, early]).may_be_tried(retries=2)
    assert not Entry(failures=[early, early]).may_be_tried(retries=1)
    # Those that were started together try it twice, however many tries the space allows.
    assert Entry(failures=[early, early, late]).may_be_tried(retries=9, since="2026-01-15")
    assert not Entry(failures=[early, late, late]).may_be_tried(retries=9, since="2026-01-15")
