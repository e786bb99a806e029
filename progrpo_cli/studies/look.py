"""A study's trials and ledger, looked at: nothing is made, locked or changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progrpo_cli.studies.storage import Store, read_store

if TYPE_CHECKING:
    from progrpo_cli.studies.optuna_trials import OptunaStudy
    from progrpo_cli.studies.plan import Plan


def look(plan: Plan) -> tuple[Store | None, OptunaStudy | None]:
    """The study as it is; None and None where no trial was planned yet."""
    store = read_store(plan.directory, plan.storage)
    if store is None:
        return None, None
    from progrpo_cli.studies.optuna_trials import OptunaStudy

    try:
        return store, OptunaStudy(plan, store, reading=True)
    except KeyError:  # the storage has no such study yet
        return None, None
