"""Read runs from a W&B server through `wandb.Api`, a page of runs per request, and cache them."""

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
from progrpo_cli.untrusted import METRICS, read_text

if TYPE_CHECKING:
    from wandb.apis.public import Run, Runs

log = logging.getLogger("progrpo")

PAGE = 100  # runs per request
ATTEMPTS = 4
FIRST_PAUSE = 1.0  # seconds; doubled after each attempt
_STATES = {"finished": "finished", "running": "running", "failed": "failed", "crashed": "failed", "killed": "failed"}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Query:
    """A query for runs of a project."""

    entity: str
    project: str
    filters: Mapping[str, Any]
    """The server's filters, in MongoDB's grammar."""
    keep: Callable[[TrackedRun], bool] = lambda _: True
    """A filter applied here, for keys of nested configurations: https://github.com/wandb/wandb/issues/3087."""
    keep_settings: Sequence[tuple[str, str]] = ()
    """The keys and values that ``keep`` compares. They identify the query in the cache, together with ``filters``."""

    @property
    def _directory(self) -> Path:
        host = os.environ.get("WANDB_BASE_URL", "default")
        parts = (host, self.entity, self.project)
        return cache_directory() / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def listing_path(self) -> Path:
        """The file in the cache with the ids of the query's runs."""
        text = json.dumps([self.filters, sorted(self.keep_settings)], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._directory / f"runs-{digest}.json"

    def run_path(self, run_id: str) -> Path:
        """Return the file of a run in the cache. The id is hashed, since it comes from a server."""
        return self._directory / f"run-{hashlib.sha256(run_id.encode()).hexdigest()[:16]}.json"


def cache_directory() -> Path:
    """Return ``$XDG_CACHE_HOME/progrpo/wandb``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progrpo" / "wandb"


def fetch(query: Query) -> list[TrackedRun]:
    """Fetch the runs of a query, oldest first. The history of an unchanged run comes from the cache.

    Raises:
        RequestError: there is no API key, no such project, or no permission to read it.
        WorkError: the server does not answer after several attempts.
    """
    import wandb

    try:
        api = _retry(wandb.Api)
    except wandb.errors.UsageError as error:
        raise RequestError(
            f"W&B: {_line(error)} (or set WANDB_API_KEY; --offline reads what was fetched before)"
        ) from None
    path = f"{query.entity}/{query.project}"
    pages = api.runs(path, filters=dict(query.filters), per_page=PAGE, lazy=False)
    runs = []
    while (run := _next_run(pages)) is not None:
        tracked, stamp = _without_history(run, path)
        if query.keep(tracked):
            runs.append(_with_history(query, run, tracked, stamp))
    files.write_json(query.listing_path, [run.id for run in runs])
    return runs


def read_cache(query: Query) -> list[TrackedRun]:
    """Return the last result of :func:`fetch` for this query, without a server.

    Raises:
        RequestError: the query was never fetched, or some of its runs are no longer in the cache.
    """
    source = f"wandb:{query.entity}/{query.project}"
    try:
        ids = json.loads(read_text(query.listing_path))
    except (OSError, ValueError):
        raise RequestError(f"{source} was never fetched with these filters: leave out --offline once") from None
    runs = [cached[0] for run_id in ids if (cached := _read(query.run_path(run_id))) is not None]
    if len(runs) < len(ids):  # an incomplete result must not be taken for the whole one
        missing = len(ids) - len(runs)
        raise RequestError(f"{source}: {missing} of {len(ids)} runs are not in the cache: leave out --offline once")
    return [run for run in runs if query.keep(run)]


def _next_run(pages: Runs) -> Run | None:
    """Return the next run, or None after the last.

    The client advances its index before it has loaded the run's page. After a failure it would skip the run, so the
    index is reset.
    """
    before = pages.index

    def attempt() -> Run | None:
        pages.index = before
        return next(pages, None)

    return _retry(attempt)


def _without_history(run: Run, path: str) -> tuple[TrackedRun, list[Any]]:
    """Return the run without its history, and a stamp that changes whenever the history does."""
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
    path = query.run_path(run.id)
    cached, cached_stamp = _read(path) or (None, None)
    if cached is not None and cached_stamp == stamp:
        complete = TrackedRun(**{**_fields(tracked), "history": cached.history})
        if complete == cached:
            return complete
    else:
        complete = TrackedRun(**{**_fields(tracked), "history": _retry(lambda: list(run.scan_history()))})
    # Not files.write_json, which refuses NaN: a diverged run logs it, and only this module reads the file.
    files.write_text(path, json.dumps({"stamp": stamp, "run": asdict(complete)}))
    return complete


def _read(path: Path) -> tuple[TrackedRun, list[Any]] | None:
    """Return a cached run and its stamp; None if there is none that this version can read."""
    try:
        content = json.loads(read_text(path, METRICS))
        return TrackedRun(**{**content["run"], "tags": tuple(content["run"]["tags"])}), content["stamp"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fields(run: TrackedRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in TrackedRun.__dataclass_fields__}


def _retry(action: Callable[[], Answer]) -> Answer:
    """Repeat an action during outages that are longer than the retries of W&B's client."""
    import requests
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except wandb.errors.UsageError:
            raise
        except ValueError as error:  # the client raises it if there is no such project
            raise RequestError(f"W&B: {_line(error)}") from None
        except (wandb.Error, WandbApiFailedError, requests.RequestException, OSError) as error:
            is_refused = _is_refused(error)
            if is_refused or attempt == ATTEMPTS:
                kind = RequestError if is_refused else WorkError
                raise kind(f"W&B: {_line(error)}; --offline reads what was fetched before") from None
            log.warning(f"W&B does not answer ({_line(error)}); attempt {attempt + 1} of {ATTEMPTS} in {pause:g} s")
            time.sleep(pause)
            pause *= 2
    raise AssertionError("unreachable")


def _is_refused(error: Exception) -> bool:
    """Whether a repeated request would fail again: status 4xx other than 408 and 429."""
    import wandb

    response = getattr(getattr(error, "exc", error), "response", None)
    status = getattr(response, "http_status", None) or getattr(response, "status_code", None) or 0
    return isinstance(error, wandb.errors.AuthenticationError) or (400 <= status < 500 and status not in (408, 429))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
