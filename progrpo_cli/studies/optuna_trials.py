"""The Optuna study behind a sweep. An Optuna trial is a set of parameters; its value is the mean over its seeds.

A trial is waiting, running (a worker holds one of its runs), and finally complete, pruned or failed. A trial whose
workers have died waits again.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from progrpo_cli.errors import RequestError
from progrpo_cli.records.layout import STUDY
from progrpo_cli.studies.optuna_parts import make_pruner, make_sampler
from progrpo_cli.studies.parameters import grid_distribution, suggest
from progrpo_cli.studies.patience import retry_until_available
from progrpo_cli.studies.plan import Plan, Trial, parse_plan
from progrpo_cli.studies.storage import Store

_T = TypeVar("_T")

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class KnownTrial:
    """A trial in Optuna's storage."""

    number: int
    trial: Trial
    state: TrialState
    values: tuple[float, ...] | None
    attributes: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        return self.state in _FINISHED


class OptunaStudy:
    """The trials of a study. All workers may call its methods concurrently."""

    def __init__(self, plan: Plan, store: Store, *, read_only: bool = False) -> None:
        """Create the study in its storage if it is missing; with ``read_only``, raise KeyError if it is missing."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._plan = plan
        self._storage = store.trials
        self._exclusive = store.exclusive
        self._trials_by_hash = {trial.config_hash: trial for trial in plan.grid}
        self._finished: dict[int, KnownTrial] = {}
        self._ids: dict[int, int] = {}
        if read_only:
            self._study = retry_until_available(lambda: optuna.load_study(study_name=plan.name, storage=self._storage))
        else:
            self._run_exclusively(self._create)

    def _run_exclusively(self, action: Callable[[Callable[[], None]], _T]) -> _T:
        """Run an action while no other process of the study does; repeat it if the connection with the lock breaks.

        Args:
            action: receives a function that it has to call before it writes, which raises if the lock was lost.
        """

        def once() -> _T:
            with self._exclusive() as check:
                return action(check)

        return retry_until_available(once)

    def _create(self, check: Callable[[], None]) -> None:
        """Create the study if it is missing, and for a grid all missing trials."""
        space = self._plan.space
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=self._plan.name,
            directions=[objective.direction for objective in space.objectives],
            load_if_exists=True,
        )
        stored_plan = self._study.user_attrs.get(STUDY)
        if stored_plan is None:
            self._study.set_user_attr(STUDY, json.dumps(self._plan.frozen()))
        else:
            self._plan.refuse_other(parse_plan(json.loads(stored_plan), self._plan.directory))
        known = {trial.user_attrs.get("config_hash") for trial in self._study.get_trials(deepcopy=False)}
        for trial in self._plan.grid:
            if trial.config_hash not in known:
                check()
                self._study.add_trial(
                    optuna.trial.create_trial(
                        state=TrialState.WAITING,
                        params=trial.parameters,
                        distributions={key: grid_distribution(space.parameters[key]) for key in trial.parameters},
                        user_attrs={"config_hash": trial.config_hash},
                    )
                )

    def trials(self) -> list[KnownTrial]:
        """Return all trials in the order in which they were planned or drawn."""
        trials = []
        for frozen in retry_until_available(lambda: self._study.get_trials(deepcopy=False)):
            if frozen.number in self._finished:
                trials.append(self._finished[frozen.number])
            elif "config_hash" in frozen.user_attrs:
                trials.append(self._known(frozen))
        self._finished.update({known.number: known for known in trials if known.finished})
        return trials

    def _known(self, frozen: FrozenTrial) -> KnownTrial:
        config_hash = frozen.user_attrs["config_hash"]
        if config_hash not in self._trials_by_hash:
            self._trials_by_hash[config_hash] = self._trial_of(frozen)
        # The value of a pruned trial is its last interim value, not an objective.
        values = tuple(frozen.values) if frozen.state == TrialState.COMPLETE else None
        return KnownTrial(frozen.number, self._trials_by_hash[config_hash], frozen.state, values, frozen.user_attrs)

    def _trial_of(self, frozen: FrozenTrial) -> Trial:
        # A database is read table by table, in an order that differs between processes. The attribute may be there
        # while some parameters are still missing. In that case the trial is read again, which returns all of them.
        with suppress(RequestError):
            trial = self._plan.trial(frozen.params)
            if trial.config_hash == frozen.user_attrs["config_hash"]:
                return trial
        return self._plan.trial(self._frozen(frozen.number).params)

    def propose(self) -> bool:
        """Draw a new trial if the plan has a sampler whose budget is not used up; return whether one was drawn."""
        budget = self._plan.space.budget.trials
        if self._plan.space.sampler.name == "grid" or budget is None:
            return False
        return self._run_exclusively(lambda check: self._propose(budget, check))

    def _propose(self, budget: int, check: Callable[[], None]) -> bool:
        drawn = 0
        for frozen in self._study.get_trials(deepcopy=False):
            counts = _counts_as_draw(frozen)
            if not counts and frozen.state == TrialState.RUNNING:  # its process died while it was being drawn
                self._study.tell(frozen.number, state=TrialState.FAIL)
            drawn += counts
        if drawn >= budget:
            return False
        self._draw(drawn, check)
        return True

    def remaining_draws(self) -> int:
        """Return how many trials the sampler may still draw."""
        budget = self._plan.space.budget.trials
        if self._plan.space.sampler.name == "grid" or budget is None:
            return 0
        trials = retry_until_available(lambda: self._study.get_trials(deepcopy=False))
        return max(0, budget - sum(map(_counts_as_draw, trials)))

    def _draw(self, number: int, check: Callable[[], None]) -> None:
        space = self._plan.space
        # Loading the study again with another sampler would read every trial from the database.
        self._study.sampler = make_sampler(space, number)
        trial = self._study.ask()
        while "config_hash" in trial.user_attrs:  # `ask` returns waiting trials first, which are not new draws
            trial = self._study.ask()
        chosen: dict[str, Any] = {}
        for key, parameter in space.parameters.items():
            if parameter.applies(chosen):
                chosen[key] = suggest(trial, key, parameter)
        try:
            drawn = self._plan.trial(chosen)
        except RequestError as error:  # the combination is not a valid configuration
            trial.set_user_attr("refused", str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            return
        check()
        trial.set_user_attr("config_hash", drawn.config_hash)

    def begin(self, known: KnownTrial) -> None:
        """Mark the trial as running."""
        retry_until_available(lambda: self._set(known, TrialState.RUNNING))

    def set_attribute(self, known: KnownTrial, key: str, value: Any) -> None:
        """Set an attribute of an unfinished trial, e.g. ``run/0``: directory and W&B run id of seed 0."""

        def write() -> None:
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                self._storage.set_trial_user_attr(self._id(known.number), key, value)

        retry_until_available(write)

    def complete(self, known: KnownTrial, values: Sequence[float]) -> None:
        """Mark the trial as complete, with the objectives' values; a second call changes nothing."""
        self._finish(known, TrialState.COMPLETE, list(values))

    def fail(self, known: KnownTrial, reason: str) -> None:
        """Mark the trial as failed."""
        self.set_attribute(known, "failed", reason)
        self._finish(known, TrialState.FAIL, None)

    def prune(self, known: KnownTrial, reason: str) -> None:
        """Mark the trial as pruned."""
        self.set_attribute(known, "pruned", reason)
        self._finish(known, TrialState.PRUNED, None)

    def retry(self, known: KnownTrial) -> None:
        """Add a new Optuna trial with the parameters of a failed one, which keeps its state."""
        self._run_exclusively(lambda check: self._retry(known, check))

    def _retry(self, known: KnownTrial, check: Callable[[], None]) -> None:
        newest = [trial for trial in self.trials() if trial.trial.config_hash == known.trial.config_hash][-1]
        if newest.state != TrialState.FAIL:
            return
        frozen = self._frozen(known.number)
        new_trial = optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=frozen.params,
            distributions=frozen.distributions,
            user_attrs={"config_hash": known.trial.config_hash, "again": known.number},
        )
        check()
        self._study.add_trial(new_trial)

    def requeue_abandoned(self, is_held: Callable[[KnownTrial], bool]) -> None:
        """Set running trials back to waiting if no worker holds one of their runs."""
        for known in self.trials():
            if known.state == TrialState.RUNNING and not is_held(known):
                retry_until_available(lambda known=known: self._set(known, TrialState.WAITING))  # type: ignore[misc]

    def report_interim(self, known: KnownTrial, seed: int, step: int, value: float) -> None:
        """Store a value measured while training one seed.

        Once all of the trial's first seeds have reached the step, Optuna receives their mean. It compares the mean with
        other trials' means over the same seeds at the same step.
        """
        # Each seed has its own key, which only the worker that holds its run writes.
        interim = {**self._frozen(known.number).user_attrs.get(f"interim/{seed}", {}), str(step): value}
        self.set_attribute(known, f"interim/{seed}", interim)
        frozen = self._frozen(known.number)
        seeds = self._plan.seeds
        by_seed = [{int(at): v for at, v in frozen.user_attrs.get(f"interim/{s}", {}).items()} for s in seeds]
        # The same for all trials, so that a point means the same number of seeds and the same update in each of them.
        last = self._plan.max_updates
        min_seeds = min(self._plan.space.pruner.min_seeds, len(seeds))
        for count in range(min_seeds, len(seeds) + 1):
            for at in sorted(set.intersection(*(set(values) for values in by_seed[:count]))):
                point = (count - 1) * last + at
                if point not in frozen.intermediate_values and frozen.state not in _FINISHED:
                    mean = sum(values[at] for values in by_seed[:count]) / count
                    retry_until_available(
                        lambda point=point, mean=mean: self._storage.set_trial_intermediate_value(  # type: ignore[misc]
                            self._id(known.number), point, mean
                        )
                    )

    def prune_reason(self, known: KnownTrial) -> str | None:
        """Return why the trial should be pruned, by the interim values of all trials; None if it should continue."""
        frozen = self._frozen(known.number)
        if frozen.state in _FINISHED:
            return "its trial was pruned"
        if frozen.last_step is None or not make_pruner(self._plan.space.pruner).prune(self._study, frozen):
            return None
        value, last = frozen.intermediate_values[frozen.last_step], self._plan.max_updates
        return (
            f"mean {self._plan.space.pruner.metric or 'interim Pass@k'} {value:.4f} "
            f"at update {(frozen.last_step - 1) % last + 1} over its first {(frozen.last_step - 1) // last + 1} seeds"
        )

    def _finish(self, known: KnownTrial, state: TrialState, values: list[float] | None) -> None:
        # `study.tell` reads before it writes, and another worker may finish the same trial in between.
        if state == TrialState.PRUNED and (interim := self._frozen(known.number).intermediate_values):
            values = [interim[max(interim)]]

        def write() -> None:
            self._set(known, TrialState.RUNNING)
            self._set(known, state, values)

        retry_until_available(write)

    def _set(self, known: KnownTrial, state: TrialState, values: list[float] | None = None) -> None:
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_state_values(self._id(known.number), state=state, values=values)

    def _id(self, number: int) -> int:
        if number not in self._ids:
            study = self._storage.get_study_id_from_name(self._plan.name)
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        return self._ids[number]

    def _frozen(self, number: int) -> FrozenTrial:
        return retry_until_available(lambda: self._storage.get_trial(self._id(number)))


def _counts_as_draw(trial: FrozenTrial) -> bool:
    """Whether the trial counts against the budget: it was drawn completely, and it does not repeat a failed one."""
    return ("config_hash" in trial.user_attrs or "refused" in trial.user_attrs) and "again" not in trial.user_attrs
