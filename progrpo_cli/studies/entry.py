"""What the ledger knows of a run: its tries, and what came of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SkipValidation
from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

from progrpo_cli.records.rundir import RunDirectory

TRIES_A_START = 2
"""A run that fails is tried once more by the same workers, after the others; then when the command is started again."""


class RunResult(TypedDict, total=False):
    """Of a run that was trained and evaluated; those of earlier versions have no ``comparable_key``."""

    values: dict[str, float | None]
    """Metric -> its value; null where the task does not measure it."""
    per_problem: dict[str, list[float]]
    """Metric -> (P,) a value a problem, of which intervals are made."""
    updates: int
    seconds: float
    """Of the updates, sampling included."""
    wandb_run_id: str
    eval_dir: str
    comparable_key: dict[str, Any]
    """See :class:`progrpo_cli.evaluation.scores_file.ComparableKey`."""
    began: str
    """When the try that completed it began, UTC, ISO 8601."""
    ended: str


class Entry(BaseModel):
    """What is known of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = 0
    """How often a worker began or continued it."""
    failures: list[tuple[str, str]] = []
    """When it failed and why."""
    result: SkipValidation[RunResult | None] = None
    """What came of it, once it is complete; as it was written, for a later version may have written more."""
    pruned: str | None = None
    """Why its trial was given up."""
    worker: str | None = None
    """Who has it, or had it last."""
    under_way: bool = False
    """An attempt has begun and not told how it ended: its worker is at it, or is dead."""
    furthest: int = 0
    """The most lines of metrics and samples that there were when an attempt began."""
    deaths: int = 0
    """How often in a row workers died with the run without getting further than that."""
    held: bool = False

    @property
    def ended(self) -> bool:
        """Complete or pruned: nothing will change any more."""
        return self.result is not None or self.pruned is not None

    def may_be_tried(self, retries: int, since: str | None = None) -> bool:
        """Whether the run may be tried again, by whoever finds that nobody holds it.

        Args:
            retries: how many failures a run may have (``retries`` of the space).
            since: when the command or worker that asks began; those started together try a run ``TRIES_A_START`` times.
        """
        lately = sum(since is not None and at > since for at, _ in self.failures)
        return not self.ended and len(self.failures) <= retries and lately < TRIES_A_START

    def begun(self, worker: str, run: RunDirectory) -> Entry:
        """The entry when a worker, which holds the run's directory, begins another attempt."""
        return self.model_copy(
            update={
                "attempts": self.attempts + 1,
                "worker": worker,
                "under_way": True,
                "furthest": max(self.furthest, run.lines_written()),
                "deaths": self.deaths_by_now(run),
            }
        )

    def deaths_by_now(self, run: RunDirectory) -> int:
        """``deaths`` with that of the attempt that is under way, if nobody is at it any more.

        Who got further was not killed by the run in the same place: a machine, a person or a scheduler did it.
        """
        if not self.under_way:
            return self.deaths
        return 0 if run.lines_written() > self.furthest else self.deaths + 1
