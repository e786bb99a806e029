"""Optuna's sampler and pruner, as a space asks for them."""

from __future__ import annotations

import hashlib

import optuna

from progrpo_cli.studies.space import Pruner, Space


def make_sampler(space: Space, number: int) -> optuna.samplers.BaseSampler:
    """A sampler for one draw: seeded by the trial's number, so a restart goes on and does not repeat."""
    chosen = space.sampler
    seed = int.from_bytes(hashlib.sha256(f"{chosen.seed}-{number}".encode()).digest()[:4], "big")
    if chosen.name == "tpe":
        # Optuna 5 changed these defaults: they are set here, so that they stay.
        conditional = any(parameter.when for parameter in space.parameters.values())
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=chosen.startup_trials,
            multivariate=True,
            group=conditional,
            constant_liar=True,
            warn_independent_sampling=False,
        )
    if chosen.name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=chosen.population)
    return optuna.samplers.RandomSampler(seed=seed)


def make_pruner(chosen: Pruner) -> optuna.pruners.BasePruner:
    """What says when a trial is given up."""
    if chosen.name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=chosen.startup_trials)
    return optuna.pruners.SuccessiveHalvingPruner(reduction_factor=chosen.reduction_factor)
