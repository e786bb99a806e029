"""Whether a study's own files may ask for what they ask for: the storage they name, and all of `config/demands.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from progrpo_cli.config.demands import JOB_SIZE, refuse
from progrpo_cli.studies.plan import Plan
from progrpo_cli.studies.storage import check_url


def refuse_storage(plan: Plan, storage: str | None) -> None:
    """Refuse to open the storage that a study's file names.

    Args:
        plan: the study as its file has it.
        storage: what the command line says with ``--storage``.

    Raises:
        RequestError: somebody else wrote the file and the command line does not say the same, or it holds a password.
    """
    check_url(plan.storage, workers=1)
    if plan.storage is not None and not plan.is_ours and plan.storage != storage:
        repeated = "if you trust whoever started it, say the same on the command line with --storage"
        refuse(f"study {plan.directory}", {"storage": plan.storage}, repeated)


def refuse_demands(plan: Plan) -> None:
    """Refuse what the configurations in a study's file ask for, unless a command of this user wrote it.

    Raises:
        RequestError: names all of it.
    """
    if not plan.is_ours:
        refuse(
            f"study {plan.directory}",
            {**plan.demands(), **plan.code_imported},
            "if you trust whoever started it, add --trust-config",
        )


def refuse_of_space(plan: Plan, space: Path | None, asked: Sequence[str]) -> None:
    """Refuse what a space's file asks for and the command line does not.

    Args:
        plan: made of the space and the command line.
        space: the file of the space; None: one that is shipped.
        asked: keys that the command line sets.

    Raises:
        RequestError: names all of it.
    """
    directory = space.parent if space else Path()
    unasked = {key: value for key, value in plan.demands(directory).items() if key not in asked}
    if unasked:
        first = next(iter(unasked))
        remedy = f"a file cannot ask for that, the command line can (`progrpo sweep ... {first}={unasked[first]}`)"
        refuse("the space", unasked, remedy)


def refuse_options_of_slurm(plan: Plan, space: Path | None) -> None:
    """Refuse options of a space's file that tell SLURM more than where its jobs run and what they get.

    Raises:
        RequestError: names them.
    """
    more = {f"slurm.{key}": str(value) for key, value in plan.space.slurm.items() if key not in JOB_SIZE}
    if space:
        refuse(f"space {space}", more, "if it is your own, add --trust-config")
