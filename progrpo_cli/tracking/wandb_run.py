"""Log a run to W&B, offline by default. Everything is in the run directory too."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from progrpo_cli.config.schema import Config

if TYPE_CHECKING:
    import wandb
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.methods.registry import label
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tracking.tracked_run import SCORES
from progrpo_cli.tracking.wandb_offline import read_wandb_dir

MODES = ("offline", "online", "disabled")


class Tracker(Protocol):
    """Receives metrics and scores in addition to the run directory."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Log the metrics of an update; ``record`` includes ``step``."""

    def catch_up(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Log updates that an earlier process of this run did not log before it was killed."""

    def alert(self, title: str, text: str) -> None:
        """Notify the user of a problem."""

    def log_scores(self, evaluation: str, scores: Mapping[str, Any], samples: Path | None) -> None:
        """Log an evaluation.

        Args:
            evaluation: the name of its directory.
            scores: the content of its ``scores.json``.
            samples: its ``samples.jsonl``; None: samples are not logged.
        """


class _NoTracker:
    def log(self, record: Mapping[str, Any]) -> None:
        """Do nothing."""

    def catch_up(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Do nothing."""

    def alert(self, title: str, text: str) -> None:
        """Do nothing."""

    def log_scores(self, evaluation: str, scores: Mapping[str, Any], samples: Path | None) -> None:
        """Do nothing."""


class _WandbTracker:
    """Logs to a W&B run. The first failure is reported, and nothing is logged after it."""

    def __init__(self, run: wandb.Run, logged: Set[int]) -> None:
        self._run = run
        self._logged = logged
        self._alive = True
        self._attempt(lambda: self._run.define_metric("step"))
        # With step_sync, W&B would add the last step to the metrics of an evaluation.
        self._attempt(lambda: self._run.define_metric("*", step_metric="step", step_sync=False))

    def log(self, record: Mapping[str, Any]) -> None:
        self._attempt(lambda: self._run.log({key: value for key, value in record.items() if value is not None}))

    def catch_up(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            if record["step"] not in self._logged:
                self.log(record)

    def alert(self, title: str, text: str) -> None:
        self._attempt(lambda: self._run.alert(title, text))

    def log_scores(self, evaluation: str, scores: Mapping[str, Any], samples: Path | None) -> None:
        metrics = {key: value["value"] for key, value in scores.items() if isinstance(value, dict) and "value" in value}
        self._attempt(lambda: self._run.log({f"eval/{evaluation}/{key}": value for key, value in metrics.items()}))
        # One summary value holds the whole file, so that a report can be made from W&B alone.
        text = json.dumps(scores, separators=(",", ":"))
        self._attempt(lambda: self._run.summary.update({f"{SCORES}{evaluation}": text}))
        if samples is not None:
            self._attempt(lambda: self._run.log({f"samples/{evaluation}": _table(samples)}))

    def finish(self, exit_code: int) -> None:
        self._attempt(lambda: self._run.finish(exit_code=exit_code))

    def _attempt(self, action: Callable[[], object]) -> None:
        if not self._alive:
            return
        import wandb

        try:
            with _no_logging_tracebacks():
                action()
        except (wandb.Error, OSError) as error:
            self._alive = False
            log.warning(f"W&B has failed ({' '.join(str(error).split())}); the run directory still gets everything")
            with suppress(OSError):  # teardown also tries to write to the dead service
                wandb.teardown()  # otherwise the next run of this process would use the same service


@contextmanager
def _no_logging_tracebacks() -> Iterator[None]:
    """Suppress the tracebacks that `logging` prints for each line of W&B's own log if the disk is full."""
    before = logging.raiseExceptions
    logging.raiseExceptions = False
    try:
        yield
    finally:
        logging.raiseExceptions = before


def _table(samples: Path) -> wandb.Table:
    import wandb

    from progrpo_cli.records.files import read_lines

    rows = read_lines(samples)
    return wandb.Table(columns=[*rows[0]], data=[list(row.values()) for row in rows])


def wandb_mode(configured: str | None) -> str:
    """Return the W&B mode: the configuration's, or else WANDB_MODE, or else offline.

    Raises:
        RequestError: WANDB_MODE is not a valid mode.
    """
    mode = configured or os.environ.get("WANDB_MODE") or "offline"
    if mode not in MODES:
        raise RequestError(f"WANDB_MODE={mode}: not a mode{nearest(mode, MODES)}")
    return mode


def _init_or_fall_back(init: Callable[[str], wandb.Run], run: RunDirectory, mode: str) -> wandb.Run:
    """Open the W&B run, offline if the server cannot be reached; it can be uploaded later."""
    import wandb

    try:
        return init(mode)
    except wandb.Error as error:
        if mode != "online":
            raise
        reason = " ".join(str(error).partition("Consider increasing")[0].split())
        log.warning(
            f"W&B cannot be reached ({reason}); the run continues offline, `wandb sync {run.wandb}/offline-run-*` "
            "uploads it later"
        )
        wandb.teardown()  # its service still holds the run that could not be opened
        return init("offline")


def _timeouts() -> dict[str, Any]:
    """Return how long to wait for a server at the start and the end of a run, by default or from W&B's variables."""
    return {
        "init_timeout": float(os.environ.get("WANDB_INIT_TIMEOUT", 30.0)),
        "finish_timeout": float(os.environ.get("WANDB_FINISH_TIMEOUT", 300.0)),
        "finish_timeout_raises": True,
    }


@contextmanager
def tracker(run: RunDirectory, config: Config, *, study: str | None = None) -> Iterator[Tracker]:
    """Context manager that opens or continues the W&B run of a run directory, and closes it at the end.

    If W&B cannot be used, a tracker that does nothing is yielded, with a warning.

    Raises:
        RequestError: WANDB_MODE is not a valid mode.
    """
    mode = wandb_mode(config.tracking.wandb.mode)
    if mode == "disabled":
        yield _NoTracker()
        return
    import wandb

    if find_spec("weave") is None:  # suppresses W&B's advice to install it
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
    # The steps that earlier processes logged; a killed process may have lost the last second.
    logged = {row["step"] for earlier in read_wandb_dir(run.wandb) for row in earlier.history}
    manifest = run.manifest()
    tags = _method_tags(config) if manifest["kind"] == "run" else ["base"]

    def init(mode: str) -> wandb.Run:
        return wandb.init(
            project=config.tracking.wandb.project,
            entity=config.tracking.wandb.entity,
            dir=run.path,
            id=manifest["wandb_run_id"],
            name=run.name,
            group=study,
            tags=[*tags, *config.tracking.wandb.tags],
            mode=mode,  # type: ignore[arg-type]  # validated by wandb_mode
            resume="allow" if mode == "online" else None,
            config={**config.model_dump(mode="json"), "progrpo": run.identity()},
            settings=wandb.Settings(
                console="off",  # stdout is for the result of the command
                silent=True,
                disable_git=True,  # W&B would record the commit of the working directory; the manifest has progrpo's
                x_disable_stats=True,
                # By default the log is flushed every 15 s, and a killed run would lose that much.
                x_transaction_log_flush_interval=1,
                **(_timeouts() if mode == "online" else {}),
            ),
            reinit="finish_previous",
        )

    try:
        wandb_run = _init_or_fall_back(init, run, mode)
    except (wandb.Error, OSError, ValueError) as error:
        log.warning(f"W&B cannot be used ({' '.join(str(error).split())}); the run directory still gets everything")
        yield _NoTracker()
        return
    wandb_tracker = _WandbTracker(wandb_run, logged)
    try:
        yield wandb_tracker
    except BaseException:
        wandb_tracker.finish(exit_code=1)
        raise
    wandb_tracker.finish(exit_code=0)
    if mode == "offline":
        log.info(f"W&B logged this run offline; to upload it: wandb sync {run.wandb}/offline-run-*")


def _method_tags(config: Config) -> list[str]:
    """Return the method's name, and its label if that differs."""
    name, arm = config.method.name, config.method.arm
    return list(dict.fromkeys([name, label(name, None if arm is None else arm.alpha)]))
