"""Waiting for a database that is away: a restart under a running sweep costs time and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from progrpo_cli.console import log
from progrpo_cli.errors import WorkError

PATIENCE_SECONDS = 300.0

_T = TypeVar("_T")


def patiently(action: Callable[[], _T]) -> _T:
    """Do something with a database, waiting for a server that is away.

    Raises:
        WorkError: it stayed away, or refuses us; the reason in one line.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

    deadline = time.monotonic() + PATIENCE_SECONDS
    told = False
    while True:
        try:
            return action()
        except (DBAPIError, StorageInternalError) as error:
            reason = _reason(error)
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            # Optuna asks once more, in the same transaction, when a connection breaks while it reads trials: SQLAlchemy
            # then says that the transaction waits for its rollback, which Optuna has done by the time we hear of it.
            broken = isinstance(cause, (OperationalError, PendingRollbackError))
            away = broken or getattr(cause, "connection_invalidated", False)
            refused = any(word in reason for word in ("authentication failed", "does not exist", "no password"))
            if not away or refused or time.monotonic() > deadline:
                raise WorkError(f"the storage does not answer: {reason}") from None
            if not told:
                log.warning(f"waiting for the storage: {reason}")
                told = True
            time.sleep(1.0)


def _reason(error: BaseException) -> str:
    """The server's own words: SQLAlchemy's message would add statements and parameters."""
    from sqlalchemy.exc import PendingRollbackError

    inner: BaseException = error
    while (below := getattr(inner, "orig", None) or inner.__cause__) is not None:
        inner = below
    if isinstance(inner, PendingRollbackError):
        return "its connection broke"
    return " ".join(str(inner).split())[:300]
