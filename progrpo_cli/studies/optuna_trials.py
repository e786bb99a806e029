"""The Optuna study behind a sweep: one Optuna trial a set of parameters, whose value is the mean over its seeds.

Waiting, running (one of its runs is held), then complete, pruned or failed. What a dead worker left waits again.
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
from progrpo_cli.studies.patience import patiently
from progrpo_cli.studies.plan import Plan, Trial, thawed
from progrpo_cli.studies.storage import Store

_T = TypeVar("_T")

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class KnownTrial:
    """A trial that Optuna knows."""

    number: int
    trial: Trial
    state: TrialState
    values: tuple[float, ...] | None
    attributes: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        return self.state in _FINISHED


class OptunaStudy:
    """The trials of a study; every method may be called by all workers at any time."""

    def __init__(self, plan: Plan, store: Store, *, reading: bool = False) -> None:
        """Make the study in its storage, or only read the one that is there; KeyError if there is none to read."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._plan = plan
        self._storage = store.trials
        self._exclusive = store.exclusive
        self._of_hash = {trial.config_hash: trial for trial in plan.grid}
        self._ended: dict[int, KnownTrial] = {}
        self._ids: dict[int, int] = {}
        if reading:
            self._study = patiently(lambda: optuna.load_study(study_name=plan.name, storage=self._storage))
        else:
            self._alone(self._create)

    def _alone(self, action: Callable[[Callable[[], None]], _T]) -> _T:
        """Do something as the study's only process; all of it again where a connection broke, and the lock with it.

        Args:
            action: is given a check that it calls before what others must not do at the same time.
        """

        def once() -> _T:
            with self._exclusive() as check:
                return action(check)

        return patiently(once)

    def _create(self, check: Callable[[], None]) -> None:
        """Make the study and, for a grid, every trial that is not there yet: once, before any worker asks."""
        space = self._plan.space
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=self._plan.name,
            directions=[objective.direction for objective in space.objectives],
            load_if_exists=True,
        )
        held = self._study.user_attrs.get(STUDY)
        if held is None:
            self._study.set_user_attr(STUDY, json.dumps(self._plan.frozen()))
        else:
            self._plan.refuse_other(thawed(json.loads(held), self._plan.directory))
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
        """All trials in the order in which they were planned or drawn."""
        found = []
        for each in patiently(lambda: self._study.get_trials(deepcopy=False)):
            if each.number in self._ended:
                found.append(self._ended[each.number])
            elif "config_hash" in each.user_attrs:
                found.append(self._known(each))
        self._ended.update({known.number: known for known in found if known.finished})
        return found

    def _known(self, each: FrozenTrial) -> KnownTrial:
        config_hash = each.user_attrs["config_hash"]
        if config_hash not in self._of_hash:
            self._of_hash[config_hash] = self._trial_of(each)
        # `value` of a pruned trial is its last interim value: no objective.
        values = tuple(each.values) if each.state == TrialState.COMPLETE else None
        return KnownTrial(each.number, self._of_hash[config_hash], each.state, values, each.user_attrs)

    def _trial_of(self, each: FrozenTrial) -> Trial:
        # A database is read table by table, in an order that differs between processes: the parameters may be from
        # before the trial was drawn to its end, the attribute from after. Whoever reads again has all of them.
        with suppress(RequestError):
            trial = self._plan.trial(each.params)
            if trial.config_hash == each.user_attrs["config_hash"]:
                return trial
        return self._plan.trial(self._frozen(each.number).params)

    def propose(self) -> bool:
        """Draw a new trial, if the plan has a sampler and its budget is not used up; whether there is one now."""
        budget = self._plan.space.budget.trials
        if self._plan.space.sampler.name == "grid" or budget is None:
            return False
        return self._alone(lambda check: self._propose(budget, check))

    def _propose(self, budget: int, check: Callable[[], None]) -> bool:
        drawn = 0
        for each in self._study.get_trials(deepcopy=False):
            whole = _is_whole(each)
            if not whole and each.state == TrialState.RUNNING:  # its process died while it was drawn
                self._study.tell(each.number, state=TrialState.FAIL)
            drawn += whole
        if drawn >= budget:
            return False
        self._draw(drawn, check)
        return True

    def left_to_draw(self) -> int:
        """How many trials the sampler may still draw."""
        budget = self._plan.space.budget.trials
        if self._plan.space.sampler.name == "grid" or budget is None:
            return 0
        return max(0, budget - sum(map(_is_whole, patiently(lambda: self._study.get_trials(deepcopy=False)))))

    def _draw(self, number: int, check: Callable[[], None]) -> None:
        space = self._plan.space
        # Not a study loaded anew: on a database that would read every trial again.
        self._study.sampler = make_sampler(space, number)
        trial = self._study.ask()
        while "config_hash" in trial.user_attrs:  # one that waits for another try comes first: not what is wanted
            trial = self._study.ask()
        chosen: dict[str, Any] = {}
        for key, parameter in space.parameters.items():
            if parameter.applies(chosen):
                chosen[key] = suggest(trial, key, parameter)
        try:
            drawn = self._plan.trial(chosen)
        except RequestError as error:  # a combination that the configuration does not take
            trial.set_user_attr("refused", str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            return
        check()
        trial.set_user_attr("config_hash", drawn.config_hash)

    def begin(self, known: KnownTrial) -> None:
        """One of the trial's runs begins."""
        patiently(lambda: self._set(known, TrialState.RUNNING))

    def attribute(self, known: KnownTrial, key: str, value: Any) -> None:
        """Keep something with an unfinished trial, e.g. ``run/0``: directory and W&B run id of seed 0."""

        def keep() -> None:
            try:
                self._storage.set_trial_user_attr(self._id(known.number), key, value)
            except optuna.exceptions.UpdateFinishedTrialError:
                return

        patiently(keep)

    def complete(self, known: KnownTrial, values: Sequence[float]) -> None:
        """All seeds are done; a second call changes nothing."""
        self._finish(known, TrialState.COMPLETE, list(values))

    def fail(self, known: KnownTrial, reason: str) -> None:
        """A run has failed as often as it may."""
        self.attribute(known, "failed", reason)
        self._finish(known, TrialState.FAIL, None)

    def prune(self, known: KnownTrial, reason: str) -> None:
        """The trial is given up."""
        self.attribute(known, "pruned", reason)
        self._finish(known, TrialState.PRUNED, None)

    def reopen(self, known: KnownTrial) -> None:
        """A failed trial may be tried again: a new Optuna trial with the same parameters; the failed one stays."""
        self._alone(lambda check: self._reopen(known, check))

    def _reopen(self, known: KnownTrial, check: Callable[[], None]) -> None:
        newest = [each for each in self.trials() if each.trial.config_hash == known.trial.config_hash][-1]
        if newest.state != TrialState.FAIL:
            return
        frozen = self._frozen(known.number)
        again = optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=frozen.params,
            distributions=frozen.distributions,
            user_attrs={"config_hash": known.trial.config_hash, "again": known.number},
        )
        check()
        self._study.add_trial(again)

    def settle(self, held: Callable[[KnownTrial], bool]) -> None:
        """A trial that is running although nobody holds one of its runs waits again: its worker is dead or has left."""
        for known in self.trials():
            if known.state == TrialState.RUNNING and not held(known):
                patiently(lambda known=known: self._set(known, TrialState.WAITING))  # type: ignore[misc]

    def note_interim(self, known: KnownTrial, seed: int, step: int, value: float) -> None:
        """Note a value measured while training a seed.

        Optuna sees the mean over the trial's first seeds, as soon as all of them have reached the step, and compares it
        with other trials' mean over the same seeds at the same step.
        """
        # Each seed has a key of its own, and one holder: nobody overwrites anybody.
        mine = {**self._frozen(known.number).user_attrs.get(f"interim/{seed}", {}), str(step): value}
        self.attribute(known, f"interim/{seed}", mine)
        frozen = self._frozen(known.number)
        seeds = self._plan.seeds
        so_far = [{int(at): v for at, v in frozen.user_attrs.get(f"interim/{s}", {}).items()} for s in seeds]
        last = self._plan.most_updates  # the same for all trials: a point is the same seeds and the same update in each
        fewest = min(self._plan.space.pruner.min_seeds, len(seeds))
        for count in range(fewest, len(seeds) + 1):
            for at in sorted(set.intersection(*(set(values) for values in so_far[:count]))):
                point = (count - 1) * last + at
                if point not in frozen.intermediate_values and frozen.state not in _FINISHED:
                    mean = sum(values[at] for values in so_far[:count]) / count
                    patiently(
                        lambda point=point, mean=mean: self._storage.set_trial_intermediate_value(  # type: ignore[misc]
                            self._id(known.number), point, mean
                        )
                    )

    def why_give_up(self, known: KnownTrial) -> str | None:
        """Why a trial is to be given up by what was noted of it and of the others; None: it goes on."""
        frozen = self._frozen(known.number)
        if frozen.state in _FINISHED:
            return "its trial was given up"
        if frozen.last_step is None or not make_pruner(self._plan.space.pruner).prune(self._study, frozen):
            return None
        value, last = frozen.intermediate_values[frozen.last_step], self._plan.most_updates
        return (
            f"mean {self._plan.space.pruner.metric or 'interim Pass@k'} {value:.4f} "
            f"at update {(frozen.last_step - 1) % last + 1} over its first {(frozen.last_step - 1) // last + 1} seeds"
        )

    def _finish(self, known: KnownTrial, state: TrialState, values: list[float] | None) -> None:
        # Not `study.tell`: it looks first and writes then, and another worker may tell the same in between.
        if state == TrialState.PRUNED and (measured := self._frozen(known.number).intermediate_values):
            values = [measured[max(measured)]]

        def tell() -> None:
            self._set(known, TrialState.RUNNING)
            self._set(known, state, values)

        patiently(tell)

    def _set(self, known: KnownTrial, state: TrialState, values: list[float] | None = None) -> None:
        try:
            self._storage.set_trial_state_values(self._id(known.number), state=state, values=values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return

    def _id(self, number: int) -> int:
        if number not in self._ids:
            study = self._storage.get_study_id_from_name(self._plan.name)
            self._ids[number] = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        return self._ids[number]

    def _frozen(self, number: int) -> FrozenTrial:
        return patiently(lambda: self._storage.get_trial(self._id(number)))


def _is_whole(trial: FrozenTrial) -> bool:
    """A trial that was drawn to its end; a second try of a failed one is none more."""
    return ("config_hash" in trial.user_attrs or "refused" in trial.user_attrs) and "again" not in trial.user_attrs
