"""A worker: a process that takes free runs of a study, one after the other, until none is left.

Workers need no coordinator, and any of them may die at any moment. A run is taken while its directory is locked, and
complete when the ledger has its result. A worker imports its modules and loads the base policy once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from progrpo_cli.console import log
from progrpo_cli.errors import Interrupted, RequestError, WorkError
from progrpo_cli.policies import policy
from progrpo_cli.records.provenance import now
from progrpo_cli.studies.entry import Entry
from progrpo_cli.studies.ledger import BEAT_SECONDS, LostRun
from progrpo_cli.studies.limits import Pruned, require_finite, time_limit
from progrpo_cli.studies.optuna_trials import KnownTrial, OptunaStudy
from progrpo_cli.studies.plan import Plan, Run
from progrpo_cli.studies.reconcile import reconcile
from progrpo_cli.studies.storage import Store
from progrpo_cli.studies.trial_tables import run_rows, write_trials_csv, written_recently

DEATHS_PER_FAILURE = 3
"""How many workers have to die in a row with a run, without progress between them, to count as a failure of the run.

If a worker is killed from outside (by a person, a scheduler, a node that goes down), the next attempt gets further. A
run that kills its workers, e.g. by running out of memory, does so at the same point each time.
"""

Watch = Callable[[Mapping[str, Any]], None]
"""Receives every line of ``metrics.jsonl`` when it is written. An exception that it raises ends the run."""
Execute = Callable[[Plan, Run, Watch], dict[str, Any]]
"""Executes a run and returns the result for the ledger."""


def work(plan: Plan, store: Store, execute: Execute) -> None:
    """Execute runs of the study until each is complete, held by another worker, or has failed too often."""
    optuna_study = OptunaStudy(plan, store)
    worker = _Worker(plan, store, optuna_study, execute)
    try:
        with policy.cache_policies():
            while worker.execute_next() or optuna_study.propose():
                pass
    finally:
        reconcile(plan, store, optuna_study)
        write_trials_csv(plan, run_rows(plan, store, optuna_study))


class _Worker:
    def __init__(self, plan: Plan, store: Store, optuna_study: OptunaStudy, execute: Execute) -> None:
        self._plan, self._store, self._optuna_study, self._execute = plan, store, optuna_study, execute
        self._start_time = now()

    def execute_next(self) -> bool:
        """Take the first free run and execute it; return whether there was one.

        Runs without failures come first, among them those that killed no worker, so that a bad run does not delay
        others. Then the longest runs come first: a long run that starts last would keep the other workers waiting.
        """
        open_runs = []
        for known in self._optuna_study.trials():
            if not known.finished:
                open_runs += [(known, run) for run in self._plan.runs_of(known.trial)]
        entries = self._store.ledger.entries([run.name for _, run in open_runs])
        free = [
            (known, run)
            for known, run in open_runs
            if not entries[run.name].held and self._may_be_tried(entries[run.name])
        ]

        def priority(candidate: tuple[KnownTrial, Run]) -> tuple[bool, int, int]:
            run, entry = candidate[1], entries[candidate[1].name]
            return bool(entry.failures), entry.current_deaths(run.directory), -run.completions

        return any(self._take(known, run) for known, run in sorted(free, key=priority))

    def _may_be_tried(self, entry: Entry) -> bool:
        return entry.may_be_tried(self._plan.space.retries, since=self._start_time)

    def _take(self, known: KnownTrial, run: Run) -> bool:
        ledger = self._store.ledger
        try:
            with run.directory.lock():
                # Another worker may have completed the run since its entry was read.
                current = ledger.entries([run.name])[run.name]
                if not self._may_be_tried(current) or (entry := ledger.take(run.name)) is None:
                    return False
                try:
                    if entry.deaths < DEATHS_PER_FAILURE:
                        self._execute_run(known, run, entry)
                    else:
                        self._record_deaths(run, entry)
                except (Interrupted, KeyboardInterrupt):  # a requested stop does not count as a death of the worker
                    with suppress(WorkError):
                        current = ledger.entries([run.name])[run.name]
                        if current.under_way:  # the result may just have been written
                            ledger.write(run.name, current.model_copy(update={"under_way": False}))
                    raise
                finally:
                    ledger.release(run.name)
        except RequestError as error:
            log.warning(f"not taken: {error}")
            return False
        except LostRun as error:
            log.warning(f"left to another worker: {error}")
        reconcile(self._plan, self._store, self._optuna_study, only=known.trial.config_hash)
        if not written_recently(self._plan):
            write_trials_csv(self._plan, run_rows(self._plan, self._store, self._optuna_study))
        return True

    def _record_deaths(self, run: Run, entry: Entry) -> None:
        """Record the deaths of the run's workers as a failure, without an attempt."""
        reason = f"its worker died {entry.deaths} times in a row at the same point (out of memory, or killed)"
        log.error(f"{run.directory.path} failed: {reason}")
        changes = {"attempts": entry.attempts - 1, "failures": [*entry.failures, (now(), reason)], "deaths": 0}
        self._store.ledger.write(run.name, entry.model_copy(update={**changes, "under_way": False}))

    def _execute_run(self, known: KnownTrial, run: Run, entry: Entry) -> None:
        ledger = self._store.ledger
        self._optuna_study.begin(known)

        def end(**changes: Any) -> None:
            ledger.write(run.name, entry.model_copy(update={**changes, "under_way": False}))

        def fail(reason: str) -> None:
            end(failures=[*entry.failures, (now(), reason)])

        def watch(line: Mapping[str, Any]) -> None:
            heartbeat.check()
            require_finite(line)
            self._report_interim(known, run, line)

        start_time = now()
        heartbeat = _Heartbeat(lambda: ledger.beat(run.name))
        try:
            with heartbeat.running(), time_limit(self._plan.space.minutes_per_run, overrun=fail):
                result = self._execute(self._plan, run, watch)
        except Pruned as reason:
            log.info(f"{run.directory.path} is pruned: {reason}")
            end(pruned=str(reason))
        except (Interrupted, KeyboardInterrupt, LostRun):
            raise
        except Exception as error:  # the other runs are executed even if one fails
            log.exception(f"{run.directory.path} failed")
            fail(" ".join(f"{type(error).__name__}: {error}".split()))
        else:
            attributes = {"directory": str(run.directory.path), "wandb_run_id": result["wandb_run_id"]}
            self._optuna_study.set_attribute(known, f"run/{run.seed}", attributes)
            end(result={**result, "began": start_time, "ended": now()})
            log.info(f"{run.directory.path} is done")

    def _report_interim(self, known: KnownTrial, run: Run, line: Mapping[str, Any]) -> None:
        """Report validation scores to the pruner; raise Pruned if the trial should not continue."""
        pruner = self._plan.space.pruner
        if pruner.name == "none":
            return
        metric = pruner.metric or f"pass@{run.config.train.group_size}"
        value = line.get(f"validation/{metric}")
        if value is None:
            return
        self._optuna_study.report_interim(known, run.seed, line["step"], value)
        if reason := self._optuna_study.prune_reason(known):
            self._optuna_study.prune(known, reason)
            raise Pruned(reason)


class _Heartbeat:
    """Sends heartbeats from a separate thread while the run keeps the main thread busy."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._stop = threading.Event()
        self._lost: LostRun | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._send_beats, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(timeout=1.0)

    def check(self) -> None:
        """Raise LostRun if another worker has taken the run."""
        if self._lost is not None:
            raise self._lost

    def _send_beats(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self._beat()
            except LostRun as error:
                self._lost = error
                return
            except Exception as error:  # the database may be available again at the next heartbeat
                log.warning(f"no heartbeat: {error}")
