"""What people see of a running study: on a terminal a live table, a row a worker; else a plain line now and then."""

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
    """Shows the rows of ``trials.csv`` as they are now."""

    def update(self, found: Rows, alive: int) -> None:
        """``alive`` worker processes are ours."""


def counted(found: Rows) -> str:
    """``3 complete, 2 running``, in the order in which the states first stand in the table."""
    states = [row["status"] for row in found]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "nothing drawn yet"


def best_so_far(plan: Plan, found: Rows) -> str | None:
    """The best trial of those whose seeds are all done, by the first objective's mean."""
    objective = plan.space.objectives[0]
    column = f"validation/{objective.metric}"
    of_trial: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        of_trial.setdefault(row["config_hash"], []).append(row)
    means = {
        each: statistics.mean(row[column] for row in rows)
        for each, rows in of_trial.items()
        if all(row["status"] == "complete" and row[column] is not None for row in rows)
    }
    if not means:
        return None
    best = (max if objective.direction == "maximize" else min)(means, key=lambda each: means[each])
    parameters = {key: of_trial[best][0][key] for key in plan.space.parameters}
    shown = ", ".join(f"{key}={value}" for key, value in parameters.items() if value is not None)
    return f"{objective.metric} {means[best]:.3f} with {shown}"


def _first(plan: Plan) -> str:
    """With one seed a trial nothing is said about settings: a higher value is not a better setting."""
    maximize = plan.space.objectives[0].direction == "maximize"
    return "best" if len(plan.seeds) > 1 else "highest" if maximize else "lowest"


def duration(seconds: float | None) -> str:
    """``2 h 5 min``, ``40 s``; a question mark for None."""
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

    def update(self, found: Rows, alive: int) -> None:
        left, now = self._pace.left(found), time.monotonic()
        over = not any(row["status"] in ("planned", "running") for row in found)
        if now - self._last < PLAIN_LINE_SECONDS and not (over and counted(found) != self._last_states):
            return
        self._last, self._last_states = now, counted(found)
        best = best_so_far(self._plan, found)
        updates = sum(row["updates"] for row in found)
        log.info(
            f"study {self._plan.name}: {counted(found)}; {updates} updates, {alive} workers; "
            f"about {duration(left)} left" + (f"; {_first(self._plan)} {best}" if best else "")
        )


class _Live:
    def __init__(self, plan: Plan) -> None:
        from rich.live import Live

        self._plan, self._pace = plan, Pace(plan)
        self.live = Live(console=plain_console(stderr=True), auto_refresh=False, transient=True)

    def update(self, found: Rows, alive: int) -> None:
        self.live.update(self.render(found, alive), refresh=True)

    def render(self, found: Rows, alive: int) -> RenderableType:
        """The whole picture: the study, the best so far, a row a worker, the time left."""
        from rich.console import Group
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("worker", "parameters", "seed", "updates", "s/update"):
            table.add_column(column)
        for row in found:
            if row["status"] == "running":
                parameters = ", ".join(
                    f"{key.rpartition('.')[2]}={row[key]}"
                    for key in self._plan.space.parameters
                    if row[key] is not None
                )
                pace = f"{row['seconds'] / row['updates']:.2f}" if row["updates"] else ""
                table.add_row(str(row["worker"]), parameters, str(row["seed"]), str(row["updates"]), pace)
        left = duration(self._pace.left(found))
        return Group(
            f"study {self._plan.directory}: {counted(found)}; {alive} workers; about {left} left",
            f"{_first(self._plan)} so far: {best_so_far(self._plan, found) or 'no trial is complete yet'}",
            table,
        )


@contextmanager
def study_display(plan: Plan) -> Iterator[StudyDisplay]:
    """Show a study on stderr until the block ends."""
    if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
        live = _Live(plan)
        with live.live:
            yield live
    else:
        yield _Lines(plan)
