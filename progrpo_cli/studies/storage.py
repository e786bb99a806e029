"""The Optuna study behind a sweep, in a journal file that a killed process cannot block."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from progrpo_cli.studies.plan import Plan, Trial


class _KernelLock(JournalFileOpenLock):
    """Optuna's own locks are files that a killed holder leaves behind; the kernel releases this one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        self._file = self._path.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None


class StudyRecord:
    """One Optuna trial a planned trial: waiting, running, then complete with the mean over seeds as its value."""

    def __init__(self, plan: Plan) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = plan.directory / "optuna.journal"
        # Reading and then telling is one step against the other workers: this lock is around both.
        self._between_workers = _KernelLock(plan.directory / ".optuna.lock")
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            key: optuna.distributions.CategoricalDistribution(
                list(dict.fromkeys(t.parameters[key] for t in plan.trials))
            )
            for key in plan.trials[0].parameters
        }
        self._between_workers.acquire()
        try:
            self._study = optuna.create_study(
                storage=JournalStorage(
                    JournalFileBackend(str(journal), lock_obj=_KernelLock(plan.directory / ".journal.lock"))
                ),
                study_name=plan.name,
                direction=plan.objective.direction,
                load_if_exists=True,
            )
            known = {trial.user_attrs["config_hash"] for trial in self._study.get_trials(deepcopy=False)}
            for trial in plan.trials:
                if trial.config_hash not in known:
                    self._study.enqueue_trial(trial.parameters, user_attrs={"config_hash": trial.config_hash})
        finally:
            self._between_workers.release()

    def running(self, trial: Trial) -> None:
        """Mark the trial as running: one of its runs begins."""
        self._between_workers.acquire()
        try:
            while self._state(trial) == TrialState.WAITING:
                self._study.ask(self._distributions)  # takes the first that waits: trials are begun in their order
        finally:
            self._between_workers.release()

    def complete(self, trial: Trial, values: Sequence[float]) -> None:
        """All seeds are done: the trial's value is their mean. A second call changes nothing."""
        self.running(trial)
        self._between_workers.acquire()
        try:
            if self._state(trial) == TrialState.RUNNING:
                self._study.tell(self._number(trial), sum(values) / len(values))
        finally:
            self._between_workers.release()

    def _frozen(self, trial: Trial) -> optuna.trial.FrozenTrial:
        found = self._study.get_trials(deepcopy=False)
        return next(each for each in found if each.user_attrs["config_hash"] == trial.config_hash)

    def _state(self, trial: Trial) -> TrialState:
        return self._frozen(trial).state

    def _number(self, trial: Trial) -> int:
        return self._frozen(trial).number
