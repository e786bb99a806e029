"""A run as a tracker or a run directory gives it back: the one shape that reports read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STEPS_BELOW = 2**53
"""What is not below it is no step: from here on floats, which trackers may make of steps, are not exact."""

SCORES = "scores/"
"""Prefix of the summary keys under which trackers keep a whole ``scores.json`` as text."""


@dataclass(frozen=True)
class TrackedRun:
    """What was logged of one run."""

    id: str
    name: str
    group: str | None
    """The study that the run belongs to."""
    tags: tuple[str, ...]
    config: dict[str, Any]
    """Nested: the resolved configuration, and under ``progrpo`` what identifies the run: kind, config_hash, seed,
    version, commit, dirty (whether the checkout had other changes), directory (its name) and model."""
    summary: dict[str, Any]
    """Last values; each evaluation's ``scores.json`` as text under ``scores/<evaluation>``."""
    history: list[dict[str, Any]]
    """One dict a logged training step, ascending in ``step``."""
    status: str
    """``finished``, ``failed``, ``interrupted`` or ``running``; ``unknown`` where nobody wrote how the run ended."""
    started: float
    """Seconds since 1970."""
    damaged_records: int
    """Records of the W&B files that could not be read."""
    path: str
    """The directory, or on a server ``entity/project/id``, that it was read from."""
