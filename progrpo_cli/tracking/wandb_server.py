"""Reading runs back from a W&B server through `wandb.Api`: a query a page of runs, and what was fetched is kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from progrpo_cli.errors import RequestError, WorkError
from progrpo_cli.records import files
from progrpo_cli.tracking.tracked_run import TrackedRun

if TYPE_CHECKING:
    from wandb.apis.public import Run, Runs

log = logging.getLogger("progrpo")

PAGE = 100  # runs a query
ATTEMPTS = 4
FIRST_PAUSE = 1.0  # seconds; doubled from attempt to attempt
_STATES = {"finished": "finished", "running": "running", "failed": "failed", "crashed": "failed", "killed": "failed"}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Query:
    """Which runs of a project are wanted."""

    entity: str
    project: str
    filters: Mapping[str, Any]
    """In the server's grammar (MongoDB's)."""
    keep: Callable[[TrackedRun], bool] = lambda _: True
    """What the server cannot filter by: https://github.com/wandb/wandb/issues/3087 (keys of nested configurations)."""
    kept_by: Sequence[tuple[str, str]] = ()
    """What ``keep`` compares: it belongs to the question as much as the filters do."""

    @property
    def _place(self) -> Path:
        host = os.environ.get("WANDB_BASE_URL", "default")
        parts = (host, self.entity, self.project)
        return cache_directory() / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def listing(self) -> Path:
        """Where the ids of the runs that were wanted of those that the server gave are kept."""
        asked = json.dumps([self.filters, sorted(self.kept_by)], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
        return self._place / f"runs-{digest}.json"

    def kept(self, run_id: str) -> Path:
        """Where a run is kept; an id from a server may be anything."""
        return self._place / f"run-{hashlib.sha256(run_id.encode()).hexdigest()[:16]}.json"


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/progrpo/wandb``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progrpo" / "wandb"


def fetch(query: Query) -> list[TrackedRun]:
    """The runs, oldest first; the history of a run that has not changed since the last time comes from the cache.

    Raises:
        RequestError: no API key, no such project, or no right to read it.
        WorkError: the server does not answer, after several attempts.
    """
    import wandb

    try:
        api = _retried(wandb.Api)
    except wandb.errors.UsageError as error:
        raise RequestError(
            f"W&B: {_line(error)} (or set WANDB_API_KEY; --offline reads what was fetched before)"
        ) from None
    path = f"{query.entity}/{query.project}"
    pages = api.runs(path, filters=dict(query.filters), per_page=PAGE, lazy=False)
    found = []
    while (run := _next_run(pages)) is not None:
        tracked, stamp = _described(run, path)
        if query.keep(tracked):
            found.append(_with_history(query, run, tracked, stamp))
    files.write_json(query.listing, [run.id for run in found])
    return found


def from_cache(query: Query) -> list[TrackedRun]:
    """What :func:`fetch` last gave for this query, without asking anybody.

    Raises:
        RequestError: it was never fetched, or some of its runs are no longer in the cache.
    """
    source = f"wandb:{query.entity}/{query.project}"
    try:
        ids = json.loads(query.listing.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RequestError(f"{source} was never fetched with these filters: leave out --offline once") from None
    kept = [held[0] for run_id in ids if (held := _read(query.kept(run_id))) is not None]
    if len(kept) < len(ids):  # a part of what was asked for would pass as all of it
        missing = len(ids) - len(kept)
        raise RequestError(f"{source}: {missing} of {len(ids)} runs are not in the cache: leave out --offline once")
    return [run for run in kept if query.keep(run)]


def _next_run(pages: Runs) -> Run | None:
    """The next run, or None after the last.

    The client counts a run before it has loaded the page that the run is on: asked again after a failure it would skip
    that run.
    """
    before = pages.index

    def attempt() -> Run | None:
        pages.index = before
        return next(pages, None)

    return _retried(attempt)


def _described(run: Run, path: str) -> tuple[TrackedRun, list[Any]]:
    """The run without its history, and what changes whenever the history does."""
    summary = {key: value for key, value in dict(run.summary_metrics).items() if not key.startswith("_")}
    tracked = TrackedRun(
        id=run.id,
        name=run.name or run.id,
        group=run.group or None,
        tags=tuple(run.tags),
        config={name: value for name, value in run.config.items() if not name.startswith("_")},
        summary=summary,
        history=[],
        status=_STATES.get(run.state, "unknown"),
        started=datetime.fromisoformat(run.created_at.replace("Z", "+00:00")).timestamp(),
        damaged_records=0,
        path=f"{path}/{run.id}",
    )
    return tracked, [run.state, run.heartbeat_at, run.history_line_count]


def _with_history(query: Query, run: Run, tracked: TrackedRun, stamp: list[Any]) -> TrackedRun:
    kept = query.kept(run.id)
    earlier, of_earlier = _read(kept) or (None, None)
    if earlier is not None and of_earlier == stamp:
        complete = TrackedRun(**{**_fields(tracked), "history": earlier.history})
        if complete == earlier:
            return complete
    else:
        complete = TrackedRun(**{**_fields(tracked), "history": _retried(lambda: list(run.scan_history()))})
    # json's own NaN, which files.write_json refuses: a diverged run logs it, and this file is nobody's but ours
    files.write_text(kept, json.dumps({"stamp": stamp, "run": asdict(complete)}))
    return complete


def _read(path: Path) -> tuple[TrackedRun, list[Any]] | None:
    """A kept run and its stamp; None where there is none that this version can read."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return TrackedRun(**{**held["run"], "tags": tuple(held["run"]["tags"])}), held["stamp"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fields(run: TrackedRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in TrackedRun.__dataclass_fields__}


def _retried(action: Callable[[], Answer]) -> Answer:
    """W&B's client retries single requests; this is for outages that are longer than its patience."""
    import requests
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except wandb.errors.UsageError:
            raise
        except ValueError as error:  # what it raises where there is no such project
            raise RequestError(f"W&B: {_line(error)}") from None
        except (wandb.Error, WandbApiFailedError, requests.RequestException, OSError) as error:
            refused = _refused(error)
            if refused or attempt == ATTEMPTS:
                kind = RequestError if refused else WorkError
                raise kind(f"W&B: {_line(error)}; --offline reads what was fetched before") from None
            log.warning(f"W&B does not answer ({_line(error)}); attempt {attempt + 1} of {ATTEMPTS} in {pause:g} s")
            time.sleep(pause)
            pause *= 2
    raise AssertionError("unreachable")


def _refused(error: Exception) -> bool:
    """Whether asking again would be answered alike: 4xx other than 408 and 429."""
    import wandb

    response = getattr(getattr(error, "exc", error), "response", None)
    status = getattr(response, "http_status", None) or getattr(response, "status_code", None) or 0
    return isinstance(error, wandb.errors.AuthenticationError) or (400 <= status < 500 and status not in (408, 429))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
