"""A worker: a long-lived process that takes the next run of a study that nobody has, until none is left.

Workers need no master, and any of them may die at any moment: a run is taken while its directory is locked, and done
when the ledger has its result. Imports and the base policy are loaded once a worker.
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
from progrpo_cli.studies.trial_tables import rows, write_trials_csv, written_lately

DEATHS_A_TRY = 3
"""So many workers have to die in a row with one run, none getting further than those before, until that is a failure.

A kill from outside (a person, a scheduler, a node that goes down) hits a run anywhere, and the next attempt gets
further; what kills its worker itself, out of memory for example, does so at the same place.
"""

Watch = Callable[[Mapping[str, Any]], None]
"""Gets every line of ``metrics.jsonl`` as it is written; what it raises ends the run."""
Execute = Callable[[Plan, Run, Watch], dict[str, Any]]
"""Does a run and returns the result for the ledger."""


def work(plan: Plan, store: Store, execute: Execute) -> None:
    """Do runs of the study until each is complete, held by another worker, or has failed too often."""
    optuna_study = OptunaStudy(plan, store)
    worker = _Worker(plan, store, optuna_study, execute)
    try:
        with policy.cache_policies():
            while worker.do_next() or optuna_study.propose():
                pass
    finally:
        reconcile(plan, store, optuna_study)
        write_trials_csv(plan, rows(plan, store, optuna_study))


class _Worker:
    def __init__(self, plan: Plan, store: Store, optuna_study: OptunaStudy, execute: Execute) -> None:
        self._plan, self._store, self._optuna_study, self._execute = plan, store, optuna_study, execute
        self._began = now()

    def do_next(self) -> bool:
        """Take the first open run and do it; whether there was one.

        Those that never failed come first, of them those that killed no worker: one that does holds up nothing else.
        Then those that sample most: a long run that began last would keep all other workers waiting at the end.
        """
        open_runs = []
        for known in self._optuna_study.trials():
            if not known.finished:
                open_runs += [(known, run) for run in self._plan.runs_of(known.trial)]
        entries = self._store.ledger.entries([run.name for _, run in open_runs])
        free = [each for each in open_runs if not entries[each[1].name].held and self._is_open(entries[each[1].name])]

        def trouble_then_length(each: tuple[KnownTrial, Run]) -> tuple[bool, int, int]:
            run, entry = each[1], entries[each[1].name]
            return bool(entry.failures), entry.deaths_by_now(run.directory), -run.completions

        return any(self._take(known, run) for known, run in sorted(free, key=trouble_then_length))

    def _is_open(self, entry: Entry) -> bool:
        return entry.may_be_tried(self._plan.space.retries, since=self._began)

    def _take(self, known: KnownTrial, run: Run) -> bool:
        ledger = self._store.ledger
        try:
            with run.directory.lock():
                # It may have been done between the look and the lock.
                if not self._is_open(ledger.entries([run.name])[run.name]) or (entry := ledger.take(run.name)) is None:
                    return False
                try:
                    if entry.deaths < DEATHS_A_TRY:
                        self._do(known, run, entry)
                    else:
                        self._give_the_dead_up(run, entry)
                except (Interrupted, KeyboardInterrupt):  # told to stop: no death, and not the run's doing
                    with suppress(WorkError):
                        left = ledger.entries([run.name])[run.name]
                        if left.under_way:  # its result may have been written just now
                            ledger.write(run.name, left.model_copy(update={"under_way": False}))
                    raise
                finally:
                    ledger.release(run.name)
        except RequestError as error:
            log.warning(f"not taken: {error}")
            return False
        except LostRun as error:
            log.warning(f"left to the other worker: {error}")
        reconcile(self._plan, self._store, self._optuna_study, only=known.trial.config_hash)
        if not written_lately(self._plan):
            write_trials_csv(self._plan, rows(self._plan, self._store, self._optuna_study))
        return True

    def _give_the_dead_up(self, run: Run, entry: Entry) -> None:
        """Write down as a failure that the run's workers died; nothing is attempted."""
        reason = f"its worker died {entry.deaths} times in a row at the same point (out of memory, or killed)"
        log.error(f"{run.directory.path} failed: {reason}")
        changes = {"attempts": entry.attempts - 1, "failures": [*entry.failures, (now(), reason)], "deaths": 0}
        self._store.ledger.write(run.name, entry.model_copy(update={**changes, "under_way": False}))

    def _do(self, known: KnownTrial, run: Run, entry: Entry) -> None:
        ledger = self._store.ledger
        self._optuna_study.begin(known)

        def end(**changes: Any) -> None:
            ledger.write(run.name, entry.model_copy(update={**changes, "under_way": False}))

        def fail(reason: str) -> None:
            end(failures=[*entry.failures, (now(), reason)])

        def watch(line: Mapping[str, Any]) -> None:
            beat.check()
            require_finite(line)
            self._look_at_interim(known, run, line)

        began = now()
        beat = _Heartbeat(lambda: ledger.beat(run.name))
        try:
            with beat.going_on(), time_limit(self._plan.space.minutes_per_run, overrun=fail):
                result = self._execute(self._plan, run, watch)
        except Pruned as reason:
            log.info(f"{run.directory.path} is given up: {reason}")
            end(pruned=str(reason))
        except (Interrupted, KeyboardInterrupt, LostRun):
            raise
        except Exception as error:
            # One run that fails is no reason to leave the others undone.
            log.exception(f"{run.directory.path} failed")
            fail(" ".join(f"{type(error).__name__}: {error}".split()))
        else:
            attributes = {"directory": str(run.directory.path), "wandb_run_id": result["wandb_run_id"]}
            self._optuna_study.attribute(known, f"run/{run.seed}", attributes)
            end(result={**result, "began": began, "ended": now()})
            log.info(f"{run.directory.path} is done")

    def _look_at_interim(self, known: KnownTrial, run: Run, line: Mapping[str, Any]) -> None:
        pruner = self._plan.space.pruner
        if pruner.name == "none":
            return
        metric = pruner.metric or f"pass@{run.config.train.group_size}"
        value = line.get(f"validation/{metric}")
        if value is None:
            return
        self._optuna_study.note_interim(known, run.seed, line["step"], value)
        if reason := self._optuna_study.why_give_up(known):
            self._optuna_study.prune(known, reason)
            raise Pruned(reason)


class _Heartbeat:
    """Beats from a thread of its own while the run keeps the main thread busy."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._over = threading.Event()
        self._lost: LostRun | None = None

    @contextmanager
    def going_on(self) -> Iterator[None]:
        thread = threading.Thread(target=self._go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(timeout=1.0)

    def check(self) -> None:
        """Raise LostRun if the run is another worker's now."""
        if self._lost is not None:
            raise self._lost

    def _go_on(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._beat()
            except LostRun as error:
                self._lost = error
                return
            except Exception as error:  # the database is away: the next beat may find it again
                log.warning(f"no heartbeat: {error}")
