"""The progress of a running study: a live table with a row per worker on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from progrpo_cli.console import PLAIN_LINE_SECONDS, log, plain_console
from progrpo_cli.studies.pace import Pace
from progrpo_cli.studies.plan import Plan

if TYPE_CHECKING:
    from rich.console import RenderableType

Rows = Sequence[Mapping[str, Any]]


class StudyDisplay(Protocol):
    """Shows the current rows of ``trials.csv``."""

    def update(self, rows: Rows, alive: int) -> None:
        """Show the rows; ``alive`` is the number of this command's workers."""


def count_states(rows: Rows) -> str:
    """Return e.g. ``3 complete, 2 running``, in the order in which the states appear in the rows."""
    states = [row["status"] for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "nothing drawn yet"


def describe_best(plan: Plan, rows: Rows) -> str | None:
    """Describe the trial with the best mean of the first objective, among those whose seeds are all complete."""
    objective = plan.space.objectives[0]
    column = f"validation/{objective.metric}"
    by_trial: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_trial.setdefault(row["config_hash"], []).append(row)
    means = {
        name: statistics.mean(row[column] for row in trial_rows)
        for name, trial_rows in by_trial.items()
        if all(row["status"] == "complete" and row[column] is not None for row in trial_rows)
    }
    if not means:
        return None
    best = (max if objective.direction == "maximize" else min)(means, key=lambda name: means[name])
    parameters = {key: by_trial[best][0][key] for key in plan.space.parameters}
    settings = ", ".join(f"{key}={value}" for key, value in parameters.items() if value is not None)
    return f"{objective.metric} {means[best]:.3f} with {settings}"


def _superlative(plan: Plan) -> str:
    """Return ``best``, or with one seed ``highest`` or ``lowest``: one seed does not show which setting is better."""
    maximize = plan.space.objectives[0].direction == "maximize"
    return "best" if len(plan.seeds) > 1 else "highest" if maximize else "lowest"


def format_duration(seconds: float | None) -> str:
    """Return e.g. ``2 h 5 min`` or ``40 s``; a question mark for None."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class _Lines:
    def __init__(self, plan: Plan) -> None:
        self._plan, self._pace = plan, Pace(plan)
        self._last, self._last_states = time.monotonic(), ""

    def update(self, rows: Rows, alive: int) -> None:
        remaining, now = self._pace.remaining_seconds(rows), time.monotonic()
        is_over = not any(row["status"] in ("planned", "running") for row in rows)
        if now - self._last < PLAIN_LINE_SECONDS and not (is_over and count_states(rows) != self._last_states):
            return
        self._last, self._last_states = now, count_states(rows)
        best = describe_best(self._plan, rows)
        updates = sum(row["updates"] for row in rows)
        log.info(
            f"study {self._plan.name}: {count_states(rows)}; {updates} updates, {alive} workers; "
            f"about {format_duration(remaining)} left" + (f"; {_superlative(self._plan)} {best}" if best else "")
        )


class _Live:
    def __init__(self, plan: Plan) -> None:
        from rich.live import Live

        self._plan, self._pace = plan, Pace(plan)
        self.live = Live(console=plain_console(stderr=True), auto_refresh=False, transient=True)

    def update(self, rows: Rows, alive: int) -> None:
        self.live.update(self.render(rows, alive), refresh=True)

    def render(self, rows: Rows, alive: int) -> RenderableType:
        """Return the study's state, the remaining time, the best trial so far, and a row per worker."""
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("worker", "parameters", "seed", "updates", "s/update"):
            table.add_column(column)
        for row in rows:
            if row["status"] == "running":
                parameters = ", ".join(
                    f"{key.rpartition('.')[2]}={row[key]}"
                    for key in self._plan.space.parameters
                    if row[key] is not None
                )
                pace = f"{row['seconds'] / row['updates']:.2f}" if row["updates"] else ""
                table.add_row(str(row["worker"]), parameters, str(row["seed"]), str(row["updates"]), pace)
        remaining = format_duration(self._pace.remaining_seconds(rows))
        return Group(
            f"study {self._plan.directory}: {count_states(rows)}; {alive} workers; about {remaining} left",
            f"{_superlative(self._plan)} so far: {describe_best(self._plan, rows) or 'no trial is complete yet'}",
            table,
        )


@contextmanager
def study_display(plan: Plan) -> Iterator[StudyDisplay]:
    """Context manager that shows the progress of a study on stderr."""
    if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
        live = _Live(plan)
        with live.live:
            yield live
    else:
        yield _Lines(plan)
