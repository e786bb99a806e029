"""The command that people start: it keeps workers running while there is something to do, and shows how far they are.

Nothing depends on it: without it the workers go on, and started again it finds everything as it is.
"""

from __future__ import annotations

import signal
from types import FrameType

from progrpo_cli.console import log
from progrpo_cli.errors import Interrupted, WorkError
from progrpo_cli.records.provenance import now
from progrpo_cli.studies.launchers.base import Launcher
from progrpo_cli.studies.live_display import study_display
from progrpo_cli.studies.optuna_trials import OptunaStudy
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.reconcile import reconcile
from progrpo_cli.studies.storage import Store
from progrpo_cli.studies.trial_tables import rows, write_trials_csv

POLL_SECONDS = 1.0
FRUITLESS_STARTS = 3
"""So many times the number of workers may end in a row, without one update or run more, before we give up."""


def supervise(plan: Plan, store: Store, optuna_study: OptunaStudy, launcher: Launcher) -> None:
    """Start workers and replace those that die; return when nothing is left that they would do.

    Raises:
        Interrupted: SIGINT or SIGTERM; the workers were told to save and have ended.
        WorkError: workers die without getting anything done.
    """
    began = now()
    ended_then, updates_then, starts = -1, 0, 0
    stop = _StopRequest()
    try:
        with stop, study_display(plan) as shown:
            while True:
                found = rows(plan, store, optuna_study)
                write_trials_csv(plan, found)
                alive = launcher.alive()
                shown.update(found, alive)
                if stop.requested:
                    raise Interrupted(f"interrupted; the same command continues {plan.directory}")
                ended = sum(row["status"] in ("complete", "pruned", "failed") for row in found)
                updates = sum(row["updates"] for row in found)  # a job's time may be up long before a run is done
                if ended > ended_then or updates > updates_then:
                    ended_then, updates_then, starts = max(ended, ended_then), max(updates, updates_then), 0
                held = sum(row["status"] == "running" for row in found)
                free = _free(plan, store, optuna_study, began)
                if not (free or alive or held):
                    return  # somebody else's workers may hold runs of the same study: it is not over before theirs are
                idle = alive - min(alive, held)  # they are starting, or about to take something
                for _ in range(min(plan.space.workers - alive, free - idle)):
                    if starts > FRUITLESS_STARTS * plan.space.workers:
                        raise WorkError(
                            f"workers end without getting a run done; their logs are in {plan.directory}/logs"
                        )
                    starts += 1
                    launcher.start()
                launcher.wait(POLL_SECONDS)
    finally:
        launcher.stop()
        reconcile(plan, store, optuna_study)
        write_trials_csv(plan, rows(plan, store, optuna_study))


def _free(plan: Plan, store: Store, optuna_study: OptunaStudy, began: str) -> int:
    """How many runs a fresh worker would find, those of trials that are yet to be drawn included."""
    trials = optuna_study.trials()
    names = [run.name for known in trials if not known.finished for run in plan.runs_of(known.trial)]
    entries = store.ledger.entries(names).values()
    retries = plan.space.retries
    open_runs = sum(not entry.held and entry.may_be_tried(retries, since=began) for entry in entries)
    drawn = optuna_study.left_to_draw() * len(plan.seeds)
    return open_runs + drawn


class _StopRequest:
    """Remembers SIGINT and SIGTERM while the workers run."""

    requested = False

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            log.warning("stopping: the workers save what they have")
        self.requested = True
