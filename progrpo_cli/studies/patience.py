"""Wait for a database that is not available, so that a running sweep survives its restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from progrpo_cli.console import log
from progrpo_cli.errors import WorkError

PATIENCE_SECONDS = 300.0

_T = TypeVar("_T")


def retry_until_available(action: Callable[[], _T]) -> _T:
    """Run an action on a database, and repeat it for up to five minutes while the server is not available.

    Raises:
        WorkError: the server stays unavailable, or refuses the connection; the message has the reason in one line.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

    deadline = time.monotonic() + PATIENCE_SECONDS
    warned = False
    while True:
        try:
            return action()
        except (DBAPIError, StorageInternalError) as error:
            reason = _reason(error)
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            # If a connection breaks while Optuna reads trials, Optuna tries again in the same transaction, and
            # SQLAlchemy raises PendingRollbackError. Optuna has rolled back by the time the error arrives here.
            is_broken = isinstance(cause, (OperationalError, PendingRollbackError))
            is_away = is_broken or getattr(cause, "connection_invalidated", False)
            is_refused = any(word in reason for word in ("authentication failed", "does not exist", "no password"))
            if not is_away or is_refused or time.monotonic() > deadline:
                raise WorkError(f"the storage does not answer: {reason}") from None
            if not warned:
                log.warning(f"waiting for the storage: {reason}")
                warned = True
            time.sleep(1.0)


def _reason(error: BaseException) -> str:
    """Return the server's message, without the statements and parameters that SQLAlchemy adds."""
    from sqlalchemy.exc import PendingRollbackError

    inner: BaseException = error
    while (cause := getattr(inner, "orig", None) or inner.__cause__) is not None:
        inner = cause
    if isinstance(inner, PendingRollbackError):
        return "its connection broke"
    return " ".join(str(inner).split())[:300]
