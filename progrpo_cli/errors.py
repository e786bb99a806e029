"""The three ways a command can end badly, each with the exit code of the contract."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ProgrpoError(Exception):
    """Base of every error that is reported to the user as one line."""

    exit_code = 1


class RequestError(ProgrpoError):
    """The request was wrong: exit code 2, raised before anything is written."""

    exit_code = 2


class WorkError(ProgrpoError):
    """The work failed: exit code 1; what had been computed stays on disk."""

    exit_code = 1


class Interrupted(ProgrpoError):
    """SIGINT or SIGTERM: exit code 130; the state is kept and the same command continues."""

    exit_code = 130


def nearest(given: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the closest valid name, else the valid names (the closest one of very many)."""
    names = sorted(set(valid))
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    if not close:  # "learning_rte" is far from "train.learning_rate" as a string: compare last parts too
        tails = {name.rsplit(".", 1)[-1]: name for name in names}
        cutoff = 0.5 if len(names) <= 12 else 0.0
        tail = difflib.get_close_matches(given.rsplit(".", 1)[-1], list(tails), n=1, cutoff=cutoff)
        close = [tails[tail[0]]] if tail else []
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid: {', '.join(names)}" if names else ""
