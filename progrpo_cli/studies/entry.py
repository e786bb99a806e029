"""A run's entry in the ledger: its attempts, failures and result."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SkipValidation
from typing_extensions import TypedDict  # pydantic needs this one below Python 3.12

from progrpo_cli.records.rundir import RunDirectory

TRIES_PER_START = 2
"""How often the workers of one command try a run. After that, the command has to be started again."""


class RunResult(TypedDict, total=False):
    """The result of a trained and evaluated run. Results of earlier versions have no ``comparable_key``."""

    values: dict[str, float | None]
    """Metric -> value; null if the task does not measure it."""
    per_problem: dict[str, list[float]]
    """Metric -> (P,) values per problem, from which confidence intervals are computed."""
    updates: int
    seconds: float
    """Duration of the updates, including sampling."""
    wandb_run_id: str
    eval_dir: str
    comparable_key: dict[str, Any]
    """See :class:`progrpo_cli.evaluation.scores_file.ComparableKey`."""
    began: str
    """When the attempt that completed the run started, UTC, ISO 8601."""
    ended: str


class Entry(BaseModel):
    """The state of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = 0
    """How often a worker started or continued the run."""
    failures: list[tuple[str, str]] = []
    """Time and reason of each failure."""
    result: SkipValidation[RunResult | None] = None
    """The result of a complete run. It is not validated, since a later version may have written more fields."""
    pruned: str | None = None
    """Why the trial was pruned."""
    worker: str | None = None
    """The worker that holds the run, or held it last."""
    under_way: bool = False
    """An attempt has started and its end is not recorded: its worker is still running it, or has died."""
    furthest: int = 0
    """The largest number of lines of metrics and samples at the start of an attempt."""
    deaths: int = 0
    """How many workers in a row died with the run without getting beyond ``furthest``."""
    held: bool = False
    """Whether a worker holds the run now. Computed, not stored."""

    @property
    def ended(self) -> bool:
        """Whether the run is complete or pruned, so that its entry will not change any more."""
        return self.result is not None or self.pruned is not None

    def may_be_tried(self, retries: int, since: str | None = None) -> bool:
        """Whether a worker may try the run if no other worker holds it.

        Args:
            retries: how often a failed run may be tried again (``retries`` of the space).
            since: when the command or worker was started; it tries a run at most ``TRIES_PER_START`` times.
        """
        recent = sum(since is not None and at > since for at, _ in self.failures)
        return not self.ended and len(self.failures) <= retries and recent < TRIES_PER_START

    def begin_attempt(self, worker: str, run: RunDirectory) -> Entry:
        """Return the entry with another attempt started by a worker, which holds the run's directory."""
        return self.model_copy(
            update={
                "attempts": self.attempts + 1,
                "worker": worker,
                "under_way": True,
                "furthest": max(self.furthest, run.lines_written()),
                "deaths": self.current_deaths(run),
            }
        )

    def current_deaths(self, run: RunDirectory) -> int:
        """Return ``deaths`` including the attempt that is under way, assuming that its worker has died.

        If that worker got further than earlier ones, the run did not kill it at the same point again, and the count
        starts from 0: a machine, a person or a scheduler ended the worker.
        """
        if not self.under_way:
            return self.deaths
        return 0 if run.lines_written() > self.furthest else self.deaths + 1
