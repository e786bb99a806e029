"""Keep workers running until a study is done, and show its progress.

The workers do not depend on this process: they continue without it, and it can be started again at any time.
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
from progrpo_cli.studies.trial_tables import run_rows, write_trials_csv

POLL_SECONDS = 1.0
MAX_FRUITLESS_STARTS = 3
"""How many starts per worker may fail in a row, without a further update or finished run, before the study stops."""


def supervise(plan: Plan, store: Store, optuna_study: OptunaStudy, launcher: Launcher) -> None:
    """Start workers and replace those that die; return when there are no runs left for them.

    Raises:
        Interrupted: SIGINT or SIGTERM arrived; the workers have saved their state and ended.
        WorkError: workers die repeatedly without progress.
    """
    start_time = now()
    most_ended, most_updates, starts = -1, 0, 0
    stop = _StopRequest()
    try:
        with stop, study_display(plan) as display:
            while True:
                rows = run_rows(plan, store, optuna_study)
                write_trials_csv(plan, rows)
                alive = launcher.alive()
                display.update(rows, alive)
                if stop.requested:
                    raise Interrupted(f"interrupted; the same command continues {plan.directory}")
                ended = sum(row["status"] in ("complete", "pruned", "failed") for row in rows)
                updates = sum(row["updates"] for row in rows)  # a job's time limit may be shorter than a run
                if ended > most_ended or updates > most_updates:
                    most_ended, most_updates, starts = max(ended, most_ended), max(updates, most_updates), 0
                held = sum(row["status"] == "running" for row in rows)
                free = _count_free_runs(plan, store, optuna_study, start_time)
                if not (free or alive or held):  # held: another command's workers may hold runs of the same study
                    return
                idle = alive - min(alive, held)  # these workers are starting, or about to take a run
                for _ in range(min(plan.space.workers - alive, free - idle)):
                    if starts > MAX_FRUITLESS_STARTS * plan.space.workers:
                        raise WorkError(
                            f"workers end without completing a run; their logs are in {plan.directory}/logs"
                        )
                    starts += 1
                    launcher.start()
                launcher.wait(POLL_SECONDS)
    finally:
        launcher.stop()
        reconcile(plan, store, optuna_study)
        write_trials_csv(plan, run_rows(plan, store, optuna_study))


def _count_free_runs(plan: Plan, store: Store, optuna_study: OptunaStudy, start_time: str) -> int:
    """Count the runs that a new worker could take, including those of trials that are not drawn yet."""
    trials = optuna_study.trials()
    names = [run.name for known in trials if not known.finished for run in plan.runs_of(known.trial)]
    entries = store.ledger.entries(names).values()
    retries = plan.space.retries
    open_runs = sum(not entry.held and entry.may_be_tried(retries, since=start_time) for entry in entries)
    return open_runs + optuna_study.remaining_draws() * len(plan.seeds)


class _StopRequest:
    """Context manager that records SIGINT and SIGTERM instead of handling them."""

    requested = False

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            log.warning("stopping: the workers save their state")
        self.requested = True
