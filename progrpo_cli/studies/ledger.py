"""The ledger: who has a run now, how often it was tried, and what came of it. In files, or in a table of PostgreSQL.

A run is held by whoever holds its directory's lock (the kernel's: a dead holder's is free at once). On PostgreSQL a
lease stands beside it, for workers on machines that do not share the directory: a heartbeat keeps it, and one that
has not beaten for two minutes is free. The server's clock is the only one that counts.
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
from progrpo_cli.studies.patience import patiently
from progrpo_cli.untrusted import MEDIUM, read_text

if TYPE_CHECKING:
    from sqlalchemy import Engine

BEAT_SECONDS = 20.0
STALE_SECONDS = 120.0


class LostRun(WorkError):
    """Another worker has taken the run: our machine was away for longer than a lease lasts."""


class Ledger(Protocol):
    """One contract for both kinds; ``tests/studies/test_ledger.py`` holds it."""

    def entries(self, names: Sequence[str]) -> dict[str, Entry]:
        """What is known of these runs now; of an unknown one, an empty entry."""

    def take(self, name: str) -> Entry | None:
        """Begin the run, whose directory the caller has locked: the entry with one attempt more; None: not ours."""

    def beat(self, name: str) -> None:
        """Say that we are alive. Raises LostRun."""

    def write(self, name: str, entry: Entry) -> None:
        """Replace what is known of a run that we have taken. Raises LostRun."""

    def release(self, name: str) -> None:
        """Let go of it; nothing happens where it is not ours."""

    def reset_failures(self, names: Iterable[str]) -> None:
        """Forget failures and deaths of runs that nobody holds: they may be tried again from the first.

        A run that somebody takes meanwhile is left as its holder writes it.
        """


def worker_name() -> str:
    """Host and process, with a few digits against a process id that comes back."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


class FileLedger:
    """A JSON file a run, written by the holder of the run directory's lock alone."""

    def __init__(self, directory: Path, runs: Path) -> None:
        self._directory = directory
        self._runs = runs
        self._worker = worker_name()
        self._taken: set[str] = set()

    def entries(self, names: Sequence[str]) -> dict[str, Entry]:
        found = {}
        for name in names:
            entry = self._read(name)
            held = not entry.ended and RunDirectory(self._runs / name).in_use()
            found[name] = entry.model_copy(update={"held": held})
        return found

    def take(self, name: str) -> Entry | None:
        begun = self._read(name).begun(self._worker, RunDirectory(self._runs / name))
        self._put(name, begun)
        self._taken.add(name)
        return begun.model_copy(update={"held": True})

    def beat(self, name: str) -> None:
        """The kernel knows who lives."""
        self._require_ours(name)

    def write(self, name: str, entry: Entry) -> None:
        self._require_ours(name)
        self._put(name, entry)

    def release(self, name: str) -> None:
        """The directory's lock is the whole claim."""
        self._taken.discard(name)

    def reset_failures(self, names: Iterable[str]) -> None:
        for name in names:
            run = RunDirectory(self._runs / name)
            if not (self._directory / f"{name}.json").exists() or run.in_use():
                continue
            try:
                with run.lock():  # as its holder we may write, and nobody can take it before we have
                    self._put(name, self._read(name).model_copy(update={"failures": [], "deaths": 0}))
            except RequestError as error:  # somebody was faster
                log.info(f"failures not reset: {error}")

    def _require_ours(self, name: str) -> None:
        if name not in self._taken or self._read(name).worker != self._worker:
            raise LostRun(f"{name} is not held by this worker")

    def _put(self, name: str, entry: Entry) -> None:
        files.write_json(self._directory / f"{name}.json", entry.model_dump(mode="json", exclude={"held"}))

    def _read(self, name: str) -> Entry:
        try:
            text = read_text(self._directory / f"{name}.json", MEDIUM)
        except FileNotFoundError:
            return Entry()
        return Entry.model_validate_json(text)


class SqlLedger:
    """A row a run in the table ``progrpo_runs``, with a lease.

    Args:
        engine: the database.
        study: the study's name.
        runs: where the run directories are on this machine.
        place: names the file system that they are on: who shares it shares the locks, which then decide.
    """

    def __init__(self, engine: Engine, study: str, runs: Path, place: str) -> None:
        self._engine = engine
        self._study = study
        self._runs = runs
        self._place = place
        self._worker = worker_name()

    def create_table(self) -> None:
        """Make the table if there is none."""
        self._do(
            "CREATE TABLE IF NOT EXISTS progrpo_runs (study TEXT, run TEXT, entry TEXT NOT NULL, worker TEXT, "
            "place TEXT, beat TIMESTAMPTZ, PRIMARY KEY (study, run))"
        )

    def entries(self, names: Sequence[str]) -> dict[str, Entry]:
        if not names:
            return {}
        rows = self._do(
            "SELECT run, entry, worker, place, beat > clock_timestamp() - make_interval(secs => :stale) "
            "FROM progrpo_runs WHERE study = :study AND run = ANY(:names)",
            names=list(names),
            stale=STALE_SECONDS,
        )
        found = dict.fromkeys(names, Entry())
        for run, text, worker, place, fresh in rows:
            entry = Entry.model_validate_json(text)
            here = place == self._place
            alive = RunDirectory(self._runs / run).in_use() if here else bool(fresh)
            found[run] = entry.model_copy(update={"held": worker is not None and not entry.ended and alive})
        return found

    def take(self, name: str) -> Entry | None:
        self._do(
            "INSERT INTO progrpo_runs (study, run, entry) VALUES (:study, :run, :empty) ON CONFLICT DO NOTHING",
            run=name,
            empty=Entry().model_dump_json(exclude={"held"}),
        )
        # Whoever had it here is dead, or the caller could not hold the directory's lock.
        rows = self._do(
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
        begun = Entry.model_validate_json(rows[0][0]).begun(self._worker, RunDirectory(self._runs / name))
        self.write(name, begun)
        return begun.model_copy(update={"held": True})

    def beat(self, name: str) -> None:
        self._ours("beat = clock_timestamp()", name)

    def write(self, name: str, entry: Entry) -> None:
        self._ours("entry = :entry, beat = clock_timestamp()", name, entry=entry.model_dump_json(exclude={"held"}))

    def release(self, name: str) -> None:
        self._do(
            "UPDATE progrpo_runs SET worker = NULL, place = NULL, beat = NULL "
            "WHERE study = :study AND run = :run AND worker = :worker",
            run=name,
            worker=self._worker,
        )

    def reset_failures(self, names: Iterable[str]) -> None:
        rows = self._do(
            "SELECT run, entry, worker FROM progrpo_runs WHERE study = :study AND run = ANY(:names)", names=list(names)
        )
        now = self.entries([run for run, _, _ in rows])
        for run, text, worker in rows:
            if now[run].held:
                continue
            entry = Entry.model_validate_json(text).model_copy(update={"failures": [], "deaths": 0})
            # Only what we have read is replaced: who takes the run meanwhile has changed the row.
            self._do(
                "UPDATE progrpo_runs SET entry = :entry WHERE study = :study AND run = :run AND entry = :before "
                "AND worker IS NOT DISTINCT FROM :worker",
                run=run,
                entry=entry.model_dump_json(exclude={"held"}),
                before=text,
                worker=worker,
            )

    def _ours(self, change: str, name: str, **values: Any) -> None:
        changed = self._do(
            f"UPDATE progrpo_runs SET {change} WHERE study = :study AND run = :run AND worker = :worker RETURNING run",
            run=name,
            worker=self._worker,
            **values,
        )
        if not changed:
            raise LostRun(f"{name} was taken by another worker")

    def _do(self, statement: str, **values: Any) -> list[Any]:
        import sqlalchemy

        bound = {**values, "study": self._study} if ":study" in statement else values

        def execute() -> list[Any]:
            with self._engine.begin() as connection:
                result = connection.execute(sqlalchemy.text(statement), bound)
                return list(result.fetchall()) if result.returns_rows else []

        return patiently(execute)
