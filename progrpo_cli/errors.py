"""The errors that end a command, each with its exit code, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ProgrpoError(Exception):
    """Base of every error that is reported to the user as one line."""

    exit_code = 1


class RequestError(ProgrpoError):
    """The request was invalid: exit code 2. Raised before anything is written."""

    exit_code = 2


class WorkError(ProgrpoError):
    """The work failed: exit code 1. Results computed before that stay on disk."""

    exit_code = 1


class Interrupted(ProgrpoError):
    """SIGINT or SIGTERM arrived: exit code 130. The state is saved, and the same command continues from it."""

    exit_code = 130


def nearest(given: str, valid: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the closest valid name, to be appended to a message.

    If no name is close, all are listed; if there are more than 12, the closest one is suggested anyway.
    """
    names = sorted(set(valid))
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    if not close:  # "learning_rte" is far from "train.learning_rate" as a string: compare the last parts too
        tails = {name.rsplit(".", 1)[-1]: name for name in names}
        cutoff = 0.5 if len(names) <= 12 else 0.0
        tail = difflib.get_close_matches(given.rsplit(".", 1)[-1], list(tails), n=1, cutoff=cutoff)
        close = [tails[tail[0]]] if tail else []
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid: {', '.join(names)}" if names else ""
