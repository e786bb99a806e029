"""A run as read from a tracker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STEPS_BELOW = 2**53
"""Upper limit of steps. Trackers may convert steps to floats, which are exact only below it."""

SCORES = "scores/"
"""Prefix of the summary keys whose values are the text of a ``scores.json``."""


@dataclass(frozen=True)
class TrackedRun:
    """Everything that was logged of one run."""

    id: str
    name: str
    group: str | None
    """The study that the run belongs to."""
    tags: tuple[str, ...]
    config: dict[str, Any]
    """Nested: the resolved configuration, and the run's :class:`progrpo_cli.records.identity.Identity` as
    ``progrpo``."""
    summary: dict[str, Any]
    """Last values, and the text of each evaluation's ``scores.json`` as ``scores/<evaluation>``."""
    history: list[dict[str, Any]]
    """A dict for each logged training step, in ascending order of ``step``."""
    status: str
    """``finished``, ``failed``, ``interrupted`` or ``running``; ``unknown`` if the end of the run was not recorded."""
    started: float
    """Seconds since 1970."""
    damaged_records: int
    """Records of the W&B files that could not be read."""
    path: str
    """Where it was read from: a directory, or ``entity/project/id`` on a server."""
