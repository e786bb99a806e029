"""Where a study's trials and the ledger of its runs are kept: a journal file, or PostgreSQL for several machines.

Passwords never pass through here: libpq takes them from PGPASSWORD or .pgpass, and a URL that holds one is refused.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.records import files
from progrpo_cli.studies.ledger import FileLedger, Ledger, SqlLedger
from progrpo_cli.studies.patience import patiently

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

POSTGRESQL, SQLITE = "postgresql+psycopg", "sqlite"
SECRETS = ("password", "passwd", "secret", "scram", "conninfo")
"""Words in the names of libpq's settings that hold a secret, or a whole connection string with one."""


def check_url(url: str | None, *, workers: int) -> None:
    """Refuse a storage that cannot work, or that would spread a password.

    Raises:
        RequestError: another database, SQLite for several workers, or a password inside the URL.
    """
    if url is None:
        return
    scheme = _scheme(url)
    if _may_hold_a_secret(url):
        raise RequestError(
            "--storage: a password inside the URL would stand in files and process lists; put it into PGPASSWORD or "
            "~/.pgpass and leave it out of the URL"
        )
    if not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):  # nothing of it is shown: who knows what it is
        raise RequestError(f"--storage: a URL is needed, such as {POSTGRESQL}://USER@HOST/DATABASE")
    if scheme == SQLITE:
        if workers > 1:
            raise RequestError(
                f"--storage {SQLITE}: its lock is one for the whole file, and {workers} workers would end in "
                "`database is locked`; leave --storage out (a journal file) or take PostgreSQL, or --workers 1"
            )
    elif scheme != POSTGRESQL:
        known = (f"{POSTGRESQL}://", f"{SQLITE}://")
        raise RequestError(f"--storage {scheme}://...: unknown storage{nearest(f'{scheme}://', known)}")
    else:
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise RequestError("--storage: PostgreSQL needs the extra: pip install 'progrpo[postgres]'") from None
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            make_url(url)
        except (ArgumentError, ValueError):  # a port that is no number
            raise RequestError(f"--storage: no URL such as {POSTGRESQL}://USER@HOST:PORT/DATABASE") from None


def _scheme(url: str) -> str:
    """What stands before ``://``; empty in what is no URL."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator else ""


def _may_hold_a_secret(url: str) -> bool:
    """Whether there is a password in it, however it is written.

    Not by `urlsplit`, to which `/`, `?` and `#` end the part that a password can stand in: SQLAlchemy takes them for
    letters of it. So any colon before the last `@` counts, and the names of all settings in the query.
    """
    rest = url.partition("://")[2] or url
    if _scheme(url) == SQLITE and rest.startswith("/"):  # a path, and nothing before it
        return False
    query = unquote(rest.partition("?")[2]).lower()
    return ":" in unquote(rest.rpartition("@")[0]) or any(
        word in name for name in re.findall(r"(\w+)\s*=", query) for word in SECRETS
    )


@dataclass(frozen=True)
class Store:
    """An open storage."""

    trials: BaseStorage
    ledger: Ledger
    exclusive: Callable[[], AbstractContextManager[Callable[[], None]]]
    """One process of the study at a time, on all machines; whoever dies inside lets go.

    What it gives raises if a connection that broke has let go too early: others may have come in.
    """


def open_store(directory: Path, url: str | None) -> Store:
    """Open a study's storage; ``directory`` is the study's.

    Raises:
        WorkError: the database cannot be reached.
    """
    runs = directory / "trials"
    directory.mkdir(parents=True, exist_ok=True)
    here = _Alone(directory / ".study.lock")
    if url is not None and _scheme(url) == POSTGRESQL:
        return _open_postgresql(directory, runs, url)
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    ledger = FileLedger(directory / "ledger", runs)
    if url is not None:
        with here():
            return Store(RDBStorage(url), ledger, here)
    lock = _journal_lock(directory / ".journal.lock")
    journal = JournalFileBackend(str(directory / "optuna.journal"), lock_obj=lock)
    return Store(JournalStorage(journal), ledger, here)


def _open_postgresql(directory: Path, runs: Path, url: str) -> Store:
    import sqlalchemy
    from optuna.storages import RDBStorage

    # A dead peer is noticed within a minute and a half, and a connection that a restart has cut is made anew.
    connection = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6}
    options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": connection}
    engine = sqlalchemy.create_engine(url, **options)

    @contextmanager
    def alone(what: str) -> Iterator[Callable[[], None]]:
        # An advisory lock belongs to the connection: the server lets go of a dead process's.
        number = zlib.crc32(what.encode())

        def connect() -> sqlalchemy.Connection:
            connection = engine.connect()
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:number)"), {"number": number})
            connection.commit()
            return connection

        held = patiently(connect)

        def check() -> None:
            held.execute(sqlalchemy.text("SELECT 1"))
            held.commit()

        try:
            yield check
        finally:
            try:
                held.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:number)"), {"number": number})
                held.commit()
            except sqlalchemy.exc.SQLAlchemyError:
                held.invalidate()  # the server is away: the lock is gone with the connection
            held.close()

    with files.locked(directory / ".place.lock"):
        place = directory / ".place"
        if not place.exists():
            files.write_text(place, f"{time.time_ns():x}-{zlib.crc32(str(place.resolve()).encode()):x}")
    ledger = SqlLedger(engine, directory.name, runs, place.read_text(encoding="utf-8"))
    # Tables are made by one process at a time: those that meet on an empty database would all fail.
    with alone("progrpo tables"):
        trials = patiently(lambda: RDBStorage(url, engine_kwargs=options))
        patiently(ledger.create_table)
    return Store(trials, ledger, lambda: alone(f"progrpo study {directory.name}"))


class _Alone:
    """A lock of the kernel on a file: a killed holder leaves nothing behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def __call__(self) -> Iterator[Callable[[], None]]:
        with files.locked(self._path):
            yield lambda: None


def _journal_lock(path: Path) -> Any:
    """Optuna's own journal locks are files that a killed holder leaves behind; the kernel releases this one."""
    from optuna.storages.journal import JournalFileOpenLock

    class KernelLock(JournalFileOpenLock):
        def __init__(self) -> None:
            self._held = ExitStack()

        def acquire(self) -> bool:
            self._held.enter_context(files.locked(path))
            return True

        def release(self) -> None:
            self._held.close()

    return KernelLock()
