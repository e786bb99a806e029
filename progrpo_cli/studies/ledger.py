"""The ledger: which worker holds a run, its attempts and its result. It is kept in files or in a PostgreSQL table.

A worker holds a run by locking its directory. The kernel releases the lock when the worker dies. On PostgreSQL there is
also a lease, for workers on machines that do not share the directory. A heartbeat renews it, and it expires after two
minutes without one, by the server's clock.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.records import files
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies.entry import Entry
from progrpo_cli.studies.patience import retry_until_available
from progrpo_cli.untrusted import MEDIUM, read_text

if TYPE_CHECKING:
    from sqlalchemy import Engine

BEAT_SECONDS = 20.0
STALE_SECONDS = 120.0


class LostRun(WorkError):
    """Another worker has taken the run, because this one sent no heartbeat for longer than the lease lasts."""


class Ledger(Protocol):
    """The contract of both kinds of ledger; ``tests/studies/test_ledger.py`` tests it."""

    def entries(self, names: Sequence[str]) -> dict[str, Entry]:
        """Return the current entries of these runs; an unknown run has an empty entry."""

    def take(self, name: str) -> Entry | None:
        """Start an attempt at a run whose directory the caller has locked.

        Returns:
            The entry with the new attempt; None if another worker holds the run.
        """

    def beat(self, name: str) -> None:
        """Renew the lease. Raises LostRun."""

    def write(self, name: str, entry: Entry) -> None:
        """Replace the entry of a run that this worker has taken. Raises LostRun."""

    def release(self, name: str) -> None:
        """Release a run; does nothing if this worker does not hold it."""

    def reset_failures(self, names: Iterable[str]) -> None:
        """Remove failures and deaths from the entries of runs that no worker holds, so that they are tried again.

        The entry of a run that is taken meanwhile is not changed.
        """


def worker_name() -> str:
    """Return host and process id, with random digits, since process ids are reused."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


class FileLedger:
    """A JSON file per run. Only the process that holds the lock of the run directory writes it."""

    def __init__(self, directory: Path, runs: Path) -> None:
        self._directory = directory
        self._runs = runs
        self._worker = worker_name()
        self._taken: set[str] = set()

    def entries(self, names: Sequence[str]) -> dict[str, Entry]:
        entries = {}
        for name in names:
            entry = self._read(name)
            held = not entry.ended and RunDirectory(self._runs / name).in_use()
            entries[name] = entry.model_copy(update={"held": held})
        return entries

    def take(self, name: str) -> Entry | None:
        entry = self._read(name).begin_attempt(self._worker, RunDirectory(self._runs / name))
        self._write_file(name, entry)
        self._taken.add(name)
        return entry.model_copy(update={"held": True})

    def beat(self, name: str) -> None:
        """Only check that the run is held: there is no lease, and the kernel releases a dead worker's lock."""
        self._require_ours(name)

    def write(self, name: str, entry: Entry) -> None:
        self._require_ours(name)
        self._write_file(name, entry)

    def release(self, name: str) -> None:
        """Forget the run; the caller releases the directory's lock, which is the only claim."""
        self._taken.discard(name)

    def reset_failures(self, names: Iterable[str]) -> None:
        for name in names:
            run = RunDirectory(self._runs / name)
            if not (self._directory / f"{name}.json").exists() or run.in_use():
                continue
            try:
                with run.lock():  # no worker can take the run before the entry is written
                    self._write_file(name, self._read(name).model_copy(update={"failures": [], "deaths": 0}))
            except RequestError as error:  # another process has just locked it
                log.info(f"failures not reset: {error}")

    def _require_ours(self, name: str) -> None:
        if name not in self._taken or self._read(name).worker != self._worker:
            raise LostRun(f"{name} is not held by this worker")

    def _write_file(self, name: str, entry: Entry) -> None:
        files.write_json(self._directory / f"{name}.json", entry.model_dump(mode="json", exclude={"held"}))

    def _read(self, name: str) -> Entry:
        try:
            text = read_text(self._directory / f"{name}.json", MEDIUM)
        except FileNotFoundError:
            return Entry()
        return Entry.model_validate_json(text)


class SqlLedger:
    """A row per run in the table ``progrpo_runs``, with a lease.

    Args:
        engine: the database.
        study: the study's name.
        runs: the parent of the run directories on this machine.
        place: identifies the file system of the run directories. Workers in the same place see each other's locks,
            which then decide instead of the lease.
    """

    def __init__(self, engine: Engine, study: str, runs: Path, place: str) -> None:
        self._engine = engine
        self._study = study
        self._runs = runs
        self._place = place
        self._worker = worker_name()

    def create_table(self) -> None:
        """Create the table if it is missing."""
        self._execute(
            "CREATE TABLE IF NOT EXISTS progrpo_runs (study TEXT, run TEXT, entry TEXT NOT NULL, worker TEXT, "
            "place TEXT, beat TIMESTAMPTZ, PRIMARY KEY (study, run))"
        )

    def entries(self, names: Sequence[str]) -> dict[str, Entry]:
        if not names:
            return {}
        rows = self._execute(
            "SELECT run, entry, worker, place, beat > clock_timestamp() - make_interval(secs => :stale) "
            "FROM progrpo_runs WHERE study = :study AND run = ANY(:names)",
            names=list(names),
            stale=STALE_SECONDS,
        )
        entries = dict.fromkeys(names, Entry())
        for run, text, worker, place, is_fresh in rows:
            entry = Entry.model_validate_json(text)
            alive = RunDirectory(self._runs / run).in_use() if place == self._place else bool(is_fresh)
            entries[run] = entry.model_copy(update={"held": worker is not None and not entry.ended and alive})
        return entries

    def take(self, name: str) -> Entry | None:
        self._execute(
            "INSERT INTO progrpo_runs (study, run, entry) VALUES (:study, :run, :empty) ON CONFLICT DO NOTHING",
            run=name,
            empty=Entry().model_dump_json(exclude={"held"}),
        )
        # A worker of the same place that is still registered has died: the caller holds the directory's lock.
        rows = self._execute(
            "UPDATE progrpo_runs SET worker = :worker, place = :place, beat = clock_timestamp() "
            "WHERE study = :study AND run = :run AND (worker IS NULL OR worker = :worker OR place = :place "
            "OR beat < clock_timestamp() - make_interval(secs => :stale)) RETURNING entry",
            run=name,
            worker=self._worker,
            place=self._place,
            stale=STALE_SECONDS,
        )
        if not rows:
            return None
        entry = Entry.model_validate_json(rows[0][0]).begin_attempt(self._worker, RunDirectory(self._runs / name))
        self.write(name, entry)
        return entry.model_copy(update={"held": True})

    def beat(self, name: str) -> None:
        self._update_own_row("beat = clock_timestamp()", name)

    def write(self, name: str, entry: Entry) -> None:
        self._update_own_row(
            "entry = :entry, beat = clock_timestamp()", name, entry=entry.model_dump_json(exclude={"held"})
        )

    def release(self, name: str) -> None:
        self._execute(
            "UPDATE progrpo_runs SET worker = NULL, place = NULL, beat = NULL "
            "WHERE study = :study AND run = :run AND worker = :worker",
            run=name,
            worker=self._worker,
        )

    def reset_failures(self, names: Iterable[str]) -> None:
        rows = self._execute(
            "SELECT run, entry, worker FROM progrpo_runs WHERE study = :study AND run = ANY(:names)", names=list(names)
        )
        current = self.entries([run for run, _, _ in rows])
        for run, text, worker in rows:
            if current[run].held:
                continue
            entry = Entry.model_validate_json(text).model_copy(update={"failures": [], "deaths": 0})
            # The row is replaced only if it is unchanged: a worker that takes the run meanwhile changes it.
            self._execute(
                "UPDATE progrpo_runs SET entry = :entry WHERE study = :study AND run = :run AND entry = :before "
                "AND worker IS NOT DISTINCT FROM :worker",
                run=run,
                entry=entry.model_dump_json(exclude={"held"}),
                before=text,
                worker=worker,
            )

    def _update_own_row(self, change: str, name: str, **values: Any) -> None:
        changed = self._execute(
            f"UPDATE progrpo_runs SET {change} WHERE study = :study AND run = :run AND worker = :worker RETURNING run",
            run=name,
            worker=self._worker,
            **values,
        )
        if not changed:
            raise LostRun(f"{name} was taken by another worker")

    def _execute(self, statement: str, **values: Any) -> list[Any]:
        import sqlalchemy

        bound = {**values, "study": self._study} if ":study" in statement else values

        def execute() -> list[Any]:
            with self._engine.begin() as connection:
                result = connection.execute(sqlalchemy.text(statement), bound)
                return list(result.fetchall()) if result.returns_rows else []

        return retry_until_available(execute)
