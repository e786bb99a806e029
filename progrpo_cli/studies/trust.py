"""Check the demands of a study's files: the storage they name, SLURM's options, and those of `config/demands.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from progrpo_cli.config.demands import JOB_SIZE, refuse
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.storage import check_url


def refuse_storage(plan: Plan, storage: str | None) -> None:
    """Refuse to open the storage of a study's file unless this user or the command line has approved it.

    Args:
        plan: the plan in the study's file.
        storage: the value of ``--storage`` on the command line.

    Raises:
        RequestError: somebody else wrote the file and ``--storage`` does not repeat it, or it contains a password.
    """
    check_url(plan.storage, workers=1)
    if plan.storage is not None and not plan.is_ours and plan.storage != storage:
        remedy = "if you trust the person who started it, repeat it on the command line with --storage"
        refuse(f"study {plan.directory}", {"storage": plan.storage}, remedy)


def refuse_demands(plan: Plan) -> None:
    """Refuse the demands of a study's configurations, unless a command of this user wrote its file.

    Raises:
        RequestError: names all of them.
    """
    if not plan.is_ours:
        refuse(
            f"study {plan.directory}",
            {**plan.demands(), **plan.foreign_classes},
            "if you trust the person who started it, add --trust-config",
        )


def refuse_space_demands(plan: Plan, space: Path | None, given_keys: Sequence[str]) -> None:
    """Refuse demands of a space's file that the command line does not repeat.

    Args:
        plan: the plan made of the space and the command line.
        space: the file of the space; None for a shipped space.
        given_keys: the keys that the command line sets.

    Raises:
        RequestError: names all of them.
    """
    directory = space.parent if space else Path()
    demands = {key: value for key, value in plan.demands(directory).items() if key not in given_keys}
    if demands:
        first = next(iter(demands))
        remedy = f"a file cannot ask for that, the command line can (`progrpo sweep ... {first}={demands[first]}`)"
        refuse("the space", demands, remedy)


def refuse_slurm_options(plan: Plan, space: Path | None) -> None:
    """Refuse SLURM options of a space's file other than those of a job's size and place.

    Raises:
        RequestError: names them.
    """
    options = {f"slurm.{key}": str(value) for key, value in plan.space.slurm.items() if key not in JOB_SIZE}
    if space:
        refuse(f"space {space}", options, "if it is your own, add --trust-config")
