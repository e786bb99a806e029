"""Implements ``progrpo train``: starts a run in its directory, or continues it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from progrpo_cli import processes
from progrpo_cli.config import versions
from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.config.paths import RUNS
from progrpo_cli.config.schema import Config
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.heavy import heavy_imports
from progrpo_cli.methods.registry import method_modules
from progrpo_cli.policies import policy
from progrpo_cli.records.provenance import now, source_digests
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.sampling.vllm_setup import require_generation
from progrpo_cli.tasks.registry import judge_modules
from progrpo_cli.tracking.wandb_run import wandb_mode
from progrpo_cli.training.batches import micro_batches


def default_run_name(config: Config) -> str:
    """A name made from the configuration and the seed, so that repeating a command finds its run."""
    experiment = config.experiment.replace("/", "-")
    return f"{experiment}-{config.method.name}-{config_hash(config)[:8]}-s{config.seed}"


def train(
    overrides: list[str],
    *,
    experiment: str | None,
    run_dir: Path | None,
    fresh: bool,
    config_dir: Path | None = None,
) -> dict[str, Any] | None:
    """Train in a new run directory, or continue the run in an existing one. A finished run is left unchanged.

    Args:
        overrides: ``key=value`` arguments of the command.
        experiment: name of a configuration in ``experiment/``.
        run_dir: the run directory; by default it is named after the configuration and the seed.
        fresh: start again, and keep an existing run aside.
        config_dir: the user's own folder of configurations.

    Returns:
        The summary to print, or None on a process that is not the main one.

    Raises:
        RequestError: the configuration is wrong, or the directory is in use or holds another configuration.
    """
    config = compose(overrides, experiment, config_dir=config_dir)
    wandb_mode(config.tracking.wandb.mode)
    policy.resolve(config.model.path)
    require_even_split(config)
    require_generation(config.train.generation)
    run = RunDirectory(run_dir or RUNS / default_run_name(config))
    if run_dir is None and not run.exists:
        _warn_about_earlier_versions(config)
    if processes.world() > 1:
        processes.join(policy.choose_device(config.device))
    if not processes.is_main():
        with heavy_imports():
            from progrpo_cli.training.run import follow

        follow(config, run)
        return None
    train_in(run, config, fresh=fresh)
    return summary(run)


def _warn_about_earlier_versions(config: Config) -> None:
    """Name unfinished runs that the same command started under earlier versions of the code; their names differ."""
    for earlier in versions.with_earlier_versions(config):
        run = RunDirectory(RUNS / default_run_name(earlier))
        if run.exists and not run.finished:
            changes = ", ".join(
                f"version {old} of {part} (now {new})"
                for part, old, new in versions.version_table(earlier).values()
                if old != new
            )
            log.warning(f"{run.path} is not continued because it was started with {changes}: this is a new run")


def require_even_split(config: Config) -> None:
    """Check that the launcher's number of processes can train this configuration.

    Raises:
        RequestError: the weights are sharded, the rollout does not divide evenly over the processes, or vLLM would be
            used with several processes.
    """
    processes.require_whole_weights()
    micro_batches(config, processes.world())
    if processes.world() > 1 and config.train.generation.backend == "vllm":
        raise RequestError(
            f"train.generation.backend=vllm is not supported with {processes.world()} processes; try "
            f"train.generation.backend=hf, or one process"
        )


def train_in(run: RunDirectory, config: Config, *, fresh: bool = False, study: str | None = None) -> None:
    """Lock the directory and start or continue its run. A finished run is left unchanged."""
    if fresh:
        run.refuse_foreign()
    else:
        run.refuse_other(config)
    with run.lock():
        if fresh and any(not entry.name.startswith(".") for entry in run.path.iterdir()):
            log.info(f"the earlier run was moved to {run.set_aside()}")
        train_locked(run, config, study=study)


def train_locked(
    run: RunDirectory,
    config: Config,
    *,
    study: str | None = None,
    watch: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """Like :func:`train_in`, in a directory that the caller has locked.

    Args:
        run: the run directory.
        config: the run's configuration.
        study: name of the study that the run belongs to.
        watch: called with each logged line. An exception from it ends the run.
    """
    if run.finished:
        log.info(f"{run.path} is finished already; --fresh trains it again")
        processes.broadcast(None)  # the other processes wait for the update to start from
        return
    versions.refuse_other(config, str(run.path))
    with run.deleted_on_request_error():
        sources = {
            "method": source_digests(method_modules(config.method)),
            "judge": source_digests(judge_modules(config.task)),
        }
        if not run.exists:
            run.start(config, model=config.model.path, study=study, sources=sources)
        else:
            _record_changed_sources(run, sources)
        log.info(
            f"training {config.method.name} in {run.path} (configuration {config_hash(config)}, seed {config.seed})"
        )
        with heavy_imports():
            from progrpo_cli.training.run import train as train_here

        train_here(config, run, study=study, watch=watch)


def _record_changed_sources(run: RunDirectory, sources: dict[str, dict[str, Any]]) -> None:
    """Warn, and record in the manifest, if a run continues with changed source code of its method or judge."""
    manifest = run.manifest()
    since = manifest.get("sources_since", [])
    previous = since[-1] if since else manifest.get("sources")
    if previous is None:  # started by a version that did not record them
        return
    changed = [part for part, digests in sources.items() if digests["sha256"] != previous[part]["sha256"]]
    if changed:
        log.warning(f"{run.path}: the source code of its {' and '.join(changed)} has changed since its last update")
        run.update(sources_since=[*since, {"at": now(), **sources}])


def summary(run: RunDirectory) -> dict[str, Any]:
    """The output of ``progrpo train``: the run's directory, its status and the metrics of its last update."""
    manifest = run.manifest()
    return {
        "run_dir": str(run.path),
        "status": manifest["status"],
        "config_hash": manifest["config_hash"],
        "seed": manifest["seed"],
        "last": run.metrics()[-1],
    }
