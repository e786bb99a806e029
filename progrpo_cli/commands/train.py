"""``progrpo train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from progrpo_cli import processes
from progrpo_cli.commands.options import ConfigDir, Fresh, Json, Overrides, Quiet, Verbose, command, print_result


def train(
    overrides: Overrides = None,
    experiment: Annotated[str | None, typer.Option(help="An experiment in experiments/experiment/.")] = None,
    config_dir: ConfigDir = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="The run directory; default: in runs/, named after the configuration.")
    ] = None,
    fresh: Fresh = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the configuration and its hash.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train a policy, by default with ProGRPO on the lab experiment. The same command again continues a run."""
    with command("train", verbose, quiet):
        from progrpo_cli.config.compose import compose
        from progrpo_cli.config.hashing import config_hash
        from progrpo_cli.config.values import to_yaml
        from progrpo_cli.training import launch

        if dry_run:
            if not processes.is_main():
                return
            config = compose(overrides or [], experiment, config_dir=config_dir)
            resolved = {"config_hash": config_hash(config), "config": config.model_dump(mode="json")}
            print_result(resolved, as_json, f"{to_yaml(config)}# config_hash: {resolved['config_hash']}")
            return
        result = launch.train(
            overrides or [], experiment=experiment, config_dir=config_dir, run_dir=run_dir, fresh=fresh
        )
        if result is None:  # only the main process prints the result
            return
        last = result["last"]
        print_result(
            result,
            as_json,
            f"{result['run_dir']}: {result['status']} after {last['step']} updates, reward {last['reward']:.3f}, "
            f"entropy {last['entropy']:.3f} nats\nnext: progrpo eval {result['run_dir']}",
        )
