"""Create Optuna's sampler and pruner from the settings of a space."""

from __future__ import annotations

import hashlib

import optuna

from progrpo_cli.studies.space import Pruner, Space


def make_sampler(space: Space, number: int) -> optuna.samplers.BaseSampler:
    """Create the sampler for one draw. Its seed depends on the trial's number, so a restart does not repeat draws."""
    settings = space.sampler
    seed = int.from_bytes(hashlib.sha256(f"{settings.seed}-{number}".encode()).digest()[:4], "big")
    if settings.name == "tpe":
        # Optuna 5 changed these defaults, so they are set explicitly.
        conditional = any(parameter.when for parameter in space.parameters.values())
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=settings.startup_trials,
            multivariate=True,
            group=conditional,
            constant_liar=True,
            warn_independent_sampling=False,
        )
    if settings.name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=settings.population)
    return optuna.samplers.RandomSampler(seed=seed)


def make_pruner(settings: Pruner) -> optuna.pruners.BasePruner:
    """Create the pruner; ``settings`` is not ``none``."""
    if settings.name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=settings.startup_trials)
    return optuna.pruners.SuccessiveHalvingPruner(reduction_factor=settings.reduction_factor)
