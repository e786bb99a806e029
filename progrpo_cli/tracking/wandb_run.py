"""Sending a run to W&B: offline by default, and never the only place where a number is."""

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
    """Where metrics and scores go besides the run directory."""

    def log(self, record: Mapping[str, Any]) -> None:
        """One logged step; ``record`` holds our own ``step``."""

    def catch_up(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Log the steps of an earlier process of this run that did not get here before it was killed."""

    def alert(self, title: str, text: str) -> None:
        """Something goes wrong that whoever is not looking at the terminal wants to know."""

    def scores(self, evaluation: str, scores: Mapping[str, Any], samples: Path | None) -> None:
        """An evaluation's ``scores.json`` under the name of its directory, with its samples if they may leave."""


class _Off:
    def log(self, record: Mapping[str, Any]) -> None:
        """Nothing is tracked."""

    def catch_up(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Nothing is tracked."""

    def alert(self, title: str, text: str) -> None:
        """Nothing is tracked."""

    def scores(self, evaluation: str, scores: Mapping[str, Any], samples: Path | None) -> None:
        """Nothing is tracked."""


class _Wandb:
    """A W&B run that may die: the first failure is said once, and the run goes on without it."""

    def __init__(self, run: wandb.Run, logged: Set[int]) -> None:
        self._run = run
        self._logged = logged
        self._alive = True
        self._attempt(lambda: self._run.define_metric("step"))
        # Without step_sync=False an evaluation would get a step that it does not have.
        self._attempt(lambda: self._run.define_metric("*", step_metric="step", step_sync=False))

    def log(self, record: Mapping[str, Any]) -> None:
        self._attempt(lambda: self._run.log({key: value for key, value in record.items() if value is not None}))

    def catch_up(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            if record["step"] not in self._logged:
                self.log(record)

    def alert(self, title: str, text: str) -> None:
        self._attempt(lambda: self._run.alert(title, text))

    def scores(self, evaluation: str, scores: Mapping[str, Any], samples: Path | None) -> None:
        measured = {
            key: value["value"] for key, value in scores.items() if isinstance(value, dict) and "value" in value
        }
        self._attempt(lambda: self._run.log({f"eval/{evaluation}/{key}": value for key, value in measured.items()}))
        # The whole file, counts included, in one summary value: a report reads it back from W&B alone.
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
            with _no_tracebacks_of_logging():
                action()
        except (wandb.Error, OSError) as error:
            self._alive = False
            log.warning(f"W&B has failed ({' '.join(str(error).split())}); the run directory still gets everything")
            with suppress(OSError):  # it says goodbye to the dead service, too, after letting go of it
                wandb.teardown()  # else the next run of this process would talk to the same service


@contextmanager
def _no_tracebacks_of_logging() -> Iterator[None]:
    """W&B keeps a log of its own in the run directory: on a full disk `logging` prints a traceback for each line."""
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
    """The W&B mode: the configuration's, else what WANDB_MODE says, else offline.

    Raises:
        RequestError: WANDB_MODE says something else.
    """
    mode = configured or os.environ.get("WANDB_MODE") or "offline"
    if mode not in MODES:
        raise RequestError(f"WANDB_MODE={mode}: not a mode{nearest(mode, MODES)}")
    return mode


def _online_or_offline(init: Callable[[str], wandb.Run], run: RunDirectory, mode: str) -> wandb.Run:
    """A server that cannot be reached is no reason to lose anything: offline, the run can be sent later."""
    import wandb

    try:
        return init(mode)
    except wandb.Error as error:
        if mode != "online":
            raise
        reason = " ".join(str(error).partition("Consider increasing")[0].split())
        log.warning(
            f"W&B cannot be reached ({reason}); the run goes on offline, `wandb sync {run.wandb}/offline-run-*` "
            "sends it later"
        )
        wandb.teardown()  # its service still holds the run that could not be opened
        return init("offline")


def _patience() -> dict[str, Any]:
    """A server that does not answer costs so many seconds at the start and at the end, unless W&B's variables say more.

    Online only: offline nobody is waited for.
    """
    return {
        "init_timeout": float(os.environ.get("WANDB_INIT_TIMEOUT", 30.0)),
        "finish_timeout": float(os.environ.get("WANDB_FINISH_TIMEOUT", 300.0)),
        "finish_timeout_raises": True,
    }


@contextmanager
def tracker(run: RunDirectory, config: Config, *, study: str | None = None) -> Iterator[Tracker]:
    """Open the run's W&B record (again), and close it whatever happens; without W&B the work goes on."""
    mode = wandb_mode(config.tracking.wandb.mode)
    if mode == "disabled":
        yield _Off()
        return
    import wandb

    if find_spec("weave") is None:  # then all that this takes away is W&B's advice, on stderr, to install it
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
    # What earlier processes of this run wrote: its last second may have died with a process.
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
            mode=mode,  # type: ignore[arg-type]  # checked by the schema, or by wandb where it is WANDB_MODE's
            resume="allow" if mode == "online" else None,
            config={**config.model_dump(mode="json"), "progrpo": run.identity()},
            settings=wandb.Settings(
                console="off",  # our stdout is the result of the command
                silent=True,
                disable_git=True,  # the manifest names our commit; W&B would name that of the working directory
                x_disable_stats=True,
                # The log is flushed every 15 s by default: a killed run would lose that much, its configuration too.
                x_transaction_log_flush_interval=1,
                **(_patience() if mode == "online" else {}),
            ),
            reinit="finish_previous",
        )

    try:
        opened = _online_or_offline(init, run, mode)
    except (wandb.Error, OSError, ValueError) as error:
        log.warning(f"W&B cannot be used ({' '.join(str(error).split())}); the run directory still gets everything")
        yield _Off()
        return
    record = _Wandb(opened, logged)
    try:
        yield record
    except BaseException:
        record.finish(exit_code=1)
        raise
    record.finish(exit_code=0)
    if mode == "offline":
        log.info(f"W&B has this offline; to send it: wandb sync {run.wandb}/offline-run-*")


def _method_tags(config: Config) -> list[str]:
    """The method's name, and its label where it is another."""
    name, arm = config.method.name, config.method.arm
    return list(dict.fromkeys([name, label(name, None if arm is None else arm.alpha)]))
