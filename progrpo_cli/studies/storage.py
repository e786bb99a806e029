"""The storage of a study's trials and of the ledger of its runs: a journal file, or PostgreSQL for several machines.

libpq takes passwords from PGPASSWORD or .pgpass. A URL that contains one is refused.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.records import files
from progrpo_cli.studies.ledger import FileLedger, Ledger, SqlLedger
from progrpo_cli.studies.patience import retry_until_available
from progrpo_cli.untrusted import METRICS, open_regular, read_text

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

POSTGRESQL, SQLITE = "postgresql+psycopg", "sqlite"
JOURNAL = "optuna.journal"
SECRETS = ("password", "passwd", "secret", "scram", "conninfo")
"""Words in the names of libpq's settings that hold a secret or a connection string."""
_CONNECTION = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6}
"""With these settings a dead peer is detected within a minute and a half."""


def check_url(url: str | None, *, workers: int) -> None:
    """Check the URL of a storage.

    Raises:
        RequestError: the database is not supported, it is SQLite for several workers, or the URL contains a password.
    """
    if url is None:
        return
    scheme = _scheme(url)
    if _may_hold_a_secret(url):
        raise RequestError(
            "--storage: a password inside the URL would appear in files and process lists; put it into PGPASSWORD or "
            "~/.pgpass and leave it out of the URL"
        )
    if not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):  # the message does not quote it: it could be a secret
        raise RequestError(f"--storage: a URL is needed, such as {POSTGRESQL}://USER@HOST/DATABASE")
    if scheme == SQLITE:
        if workers > 1:
            raise RequestError(
                f"--storage {SQLITE}: it locks the whole file, so {workers} workers would fail with `database is "
                "locked`; leave --storage out (a journal file), or use PostgreSQL or --workers 1"
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
        except (ArgumentError, ValueError):  # e.g. the port is not a number
            raise RequestError(f"--storage: not a URL such as {POSTGRESQL}://USER@HOST:PORT/DATABASE") from None


def _scheme(url: str) -> str:
    """Return the part before ``://``; empty if the text is not a URL."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator else ""


def _may_hold_a_secret(url: str) -> bool:
    """Whether the URL may contain a password.

    `urlsplit` is not used: it ends the password at `/`, `?` and `#`, which SQLAlchemy accepts in a password. So any
    colon before the last `@` counts, and the names of all settings in the query are checked.
    """
    rest = url.partition("://")[2] or url
    if _scheme(url) == SQLITE and rest.startswith("/"):  # a path without user or password
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
    """A lock for one process of the study at a time, on all machines; it is released when the process dies.

    It yields a check that raises if a broken connection has released the lock, so that others may hold it.
    """


def open_store(directory: Path, url: str | None) -> Store:
    """Open the storage of a study, and create it if it is missing.

    Args:
        directory: the study's directory.
        url: the storage; None: a journal file in the directory.

    Raises:
        RequestError: the journal is not a regular file.
        WorkError: the database cannot be reached.
    """
    runs = directory / "trials"
    directory.mkdir(parents=True, exist_ok=True)
    study_lock = partial(_file_lock, directory / ".study.lock")
    if url is not None and _scheme(url) == POSTGRESQL:
        return _open_postgresql(directory, runs, url)
    from optuna.storages import RDBStorage

    ledger = FileLedger(directory / "ledger", runs)
    if url is not None:
        with study_lock():
            return Store(RDBStorage(url), ledger, study_lock)
    return Store(_open_journal(directory), ledger, study_lock)


def read_store(directory: Path, url: str | None) -> Store | None:
    """Open the storage of a study for reading, without creating, locking or writing anything.

    Returns:
        The storage; None if it does not exist yet.

    Raises:
        RequestError: the journal is not a regular file.
        WorkError: the database cannot be reached.
    """
    ledger: Ledger = FileLedger(directory / "ledger", directory / "trials")
    if url is None:
        return Store(_open_journal(directory), ledger, _no_lock) if (directory / JOURNAL).exists() else None
    import sqlalchemy
    from optuna.storages import RDBStorage

    if _scheme(url) == SQLITE:
        import sqlite3

        file = Path(sqlalchemy.make_url(url).database or "").resolve()
        if not file.is_file():
            return None
        options: dict[str, Any] = {"creator": lambda: sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)}
    else:
        connection = {**_CONNECTION, "options": "-c default_transaction_read_only=on"}
        options = {"pool_pre_ping": True, "connect_args": connection}
    engine = sqlalchemy.create_engine(url, **options)
    tables = retry_until_available(lambda: set(sqlalchemy.inspect(engine).get_table_names()))
    if not {"studies", "trials", "version_info", "alembic_version"} <= tables:
        return None
    trials = retry_until_available(lambda: RDBStorage(url, engine_kwargs=options, skip_table_creation=True))
    if _scheme(url) != SQLITE:
        if "progrpo_runs" not in tables:
            return None
        ledger = SqlLedger(engine, directory.name, directory / "trials", "")
    return Store(trials, ledger, _no_lock)


@contextmanager
def _no_lock() -> Iterator[Callable[[], None]]:
    """For readers, which do not need a lock."""
    yield lambda: None


def _open_postgresql(directory: Path, runs: Path, url: str) -> Store:
    import sqlalchemy
    from optuna.storages import RDBStorage

    # pool_pre_ping replaces connections that a restart of the server has closed.
    options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": _CONNECTION}
    engine = sqlalchemy.create_engine(url, **options)

    @contextmanager
    def advisory_lock(name: str) -> Iterator[Callable[[], None]]:
        # The lock belongs to the connection: the server releases it when the process dies.
        number = zlib.crc32(name.encode())

        def connect() -> sqlalchemy.Connection:
            connection = engine.connect()
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:number)"), {"number": number})
            connection.commit()
            return connection

        connection = retry_until_available(connect)

        def check() -> None:
            connection.execute(sqlalchemy.text("SELECT 1"))
            connection.commit()

        try:
            yield check
        finally:
            try:
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:number)"), {"number": number})
                connection.commit()
            except sqlalchemy.exc.SQLAlchemyError:
                connection.invalidate()  # the server is not available, and the lock ended with the connection
            connection.close()

    with files.locked(directory / ".place.lock"):
        place = directory / ".place"
        if not place.exists():
            files.write_text(place, f"{time.time_ns():x}-{zlib.crc32(str(place.resolve()).encode()):x}")
    ledger = SqlLedger(engine, directory.name, runs, read_text(place))
    # One process at a time creates the tables: several that start on an empty database at once would fail.
    with advisory_lock("progrpo tables"):
        trials = retry_until_available(lambda: RDBStorage(url, engine_kwargs=options))
        retry_until_available(ledger.create_table)
    return Store(trials, ledger, lambda: advisory_lock(f"progrpo study {directory.name}"))


@contextmanager
def _file_lock(path: Path) -> Iterator[Callable[[], None]]:
    """Lock a file; the check does nothing, since the kernel does not lose locks."""
    with files.locked(path):
        yield lambda: None


def _open_journal(directory: Path) -> BaseStorage:
    """Open Optuna's journal file. Optuna itself would wait for ever for a named pipe in its place."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = directory / JOURNAL
    if path.exists():
        try:
            open_regular(path, METRICS).close()
        except OSError as error:
            raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    return JournalStorage(JournalFileBackend(str(path), lock_obj=_journal_lock(directory / ".journal.lock")))


def _journal_lock(path: Path) -> Any:
    """Return a lock for Optuna's journal. Unlike Optuna's own locks, it is released if its holder is killed."""
    from optuna.storages.journal import JournalFileOpenLock

    class KernelLock(JournalFileOpenLock):
        def __init__(self) -> None:
            self._stack = ExitStack()

        def acquire(self) -> bool:
            self._stack.enter_context(files.locked(path))
            return True

        def release(self) -> None:
            self._stack.close()

    return KernelLock()
