"""What ``progrpo train`` does: a run is begun, or gone on with, in its directory."""

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
    """The same configuration and seed have the same name: repeating a command finds its run."""
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
    """Train in a new run directory, or go on in one; a finished run is left as it is.

    Returns:
        What is printed; None on the processes of a launcher that are not the main one.

    Raises:
        RequestError: the configuration is wrong, or the directory is in use or holds another configuration.
    """
    config = compose(overrides, experiment, config_dir=config_dir)
    wandb_mode(config.tracking.wandb.mode)
    policy.resolve(config.model.path)
    require_division(config)
    require_generation(config.train.generation)
    run = RunDirectory(run_dir or RUNS / default_run_name(config))
    if run_dir is None and not run.exists:
        _say_what_is_not_gone_on_with(config)
    if processes.world() > 1:
        processes.join(policy.choose_device(config.device))
    if not processes.is_main():
        with heavy_imports():
            from progrpo_cli.training.run import follow

        follow(config, run)
        return None
    train_in(run, config, fresh=fresh)
    return summary(run)


def _say_what_is_not_gone_on_with(config: Config) -> None:
    """Name the runs that the same command began under earlier versions of the code: they have other names."""
    for earlier in versions.with_earlier_versions(config):
        run = RunDirectory(RUNS / default_run_name(earlier))
        if run.exists and not run.finished:
            begun = ", ".join(
                f"version {held} of {what} (now {now})"
                for what, held, now in versions.version_table(earlier).values()
                if held != now
            )
            log.warning(f"{run.path} is not gone on with, it was begun under {begun}: this is a new run")


def require_division(config: Config) -> None:
    """Refuse what cannot be trained by as many processes as the launcher has started.

    Raises:
        RequestError: as described.
    """
    processes.require_whole_weights()
    micro_batches(config, processes.world())
    if processes.world() > 1 and config.train.generation.backend == "vllm":
        raise RequestError(
            f"train.generation.backend=vllm was not tried with {processes.world()} processes and is refused; try "
            f"train.generation.backend=hf, or one process"
        )


def train_in(run: RunDirectory, config: Config, *, fresh: bool = False, study: str | None = None) -> None:
    """Lock the directory, start or continue its run, and let go; nothing is done for a finished one."""
    if fresh:
        run.refuse_foreign()
    else:
        run.refuse_other(config)
    with run.lock():
        if fresh and any(not entry.name.startswith(".") for entry in run.path.iterdir()):
            log.info(f"the earlier run is kept in {run.set_aside()}")
        train_locked(run, config, study=study)


def train_locked(
    run: RunDirectory,
    config: Config,
    *,
    study: str | None = None,
    watch: Callable[[Mapping[str, Any]], None] | None = None,
) -> None:
    """The same in a directory that the caller holds; ``watch`` gets each logged line, and what it raises ends it."""
    if run.finished:
        log.info(f"{run.path} is finished already; --fresh trains it again")
        processes.broadcast(None)  # the others wait to hear where training begins
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
            _note_other_sources(run, sources)
        log.info(
            f"training {config.method.name} in {run.path} (configuration {config_hash(config)}, seed {config.seed})"
        )
        with heavy_imports():
            from progrpo_cli.training.run import train as train_here

        train_here(config, run, study=study, watch=watch)


def _note_other_sources(run: RunDirectory, sources: dict[str, dict[str, Any]]) -> None:
    """Say so, and keep it in the manifest, where a run goes on with other code than it had until now."""
    manifest = run.manifest()
    since = manifest.get("sources_since", [])
    until_now = since[-1] if since else manifest.get("sources")
    if until_now is None:  # begun by a version that did not write them
        return
    changed = [what for what, digests in sources.items() if digests["sha256"] != until_now[what]["sha256"]]
    if changed:
        log.warning(f"{run.path} goes on with another source of its {' and '.join(changed)} than it had until now")
        run.update(sources_since=[*since, {"at": now(), **sources}])


def summary(run: RunDirectory) -> dict[str, Any]:
    """What ``progrpo train`` prints: where the run is and how its last update looked."""
    manifest = run.manifest()
    return {
        "run_dir": str(run.path),
        "status": manifest["status"],
        "config_hash": manifest["config_hash"],
        "seed": manifest["seed"],
        "last": run.metrics()[-1],
    }
