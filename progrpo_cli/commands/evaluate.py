"""``progrpo eval``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from progrpo_cli.commands.options import ConfigDir, Fresh, Json, Quiet, Verbose, command, integers, numbers

if TYPE_CHECKING:
    from progrpo_cli.evaluation.scores_file import Scores


def evaluate(
    target: Annotated[
        str | None, typer.Argument(help="A run, study or model directory, or owner/name; default: the newest run.")
    ] = None,
    k: Annotated[str, typer.Option(help="The k of Pass@k, separated by commas.")] = "1,32",
    n: Annotated[int | None, typer.Option(help="Samples a problem; default: twice the largest k.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Tasks, separated by commas; default: the run's own.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="task.KEY=VALUE for the tasks of --tasks; may be repeated.")
    ] = None,
    config_dir: ConfigDir = None,
    backend: Annotated[str, typer.Option(help="hf (transformers) or vllm (the extra `vllm`).")] = "hf",
    temperature: Annotated[
        str | None, typer.Option(help="Of sampling, several separated by commas; 0 is greedy. Default: the run's own.")
    ] = None,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling; 1 samples from the whole distribution.")] = 1.0,
    limit: Annotated[int | None, typer.Option(help="Only the first so many problems.")] = None,
    split: Annotated[str, typer.Option(help="test, validation, or train: the problems trained on.")] = "test",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the Python files that come with the model.")
    ] = False,
    trust_config: Annotated[
        bool, typer.Option("--trust-config", help="Take code, hosts and files from the run's own files.")
    ] = False,
    fresh: Fresh = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Sample and score: unbiased Pass@k, entropy and diversity, with 95 % intervals."""
    with command("eval", verbose, quiet):
        from progrpo_cli.evaluation.request import Request, parse_split
        from progrpo_cli.evaluation.targets import evaluate_target, resolve_targets

        request = Request(
            ks=integers("--k", k),
            n=n,
            tasks=tasks.split(",") if tasks else None,
            settings=tuple(settings or ()),
            backend=backend,
            temperatures=() if temperature is None else numbers("--temperature", temperature),
            top_p=top_p,
            limit=limit,
            split=parse_split(split),
            fresh=fresh,
            trust_remote_code=trust_remote_code,
            trust_config=trust_config,
            config_dir=config_dir,
        )
        scores = [score for one in resolve_targets(target) for score in evaluate_target(one, request)]
        if as_json:
            documents = [score.as_json() for score in scores]
            typer.echo(json.dumps(documents[0] if len(documents) == 1 else {"evaluations": documents}, indent=2))
        else:
            _show(scores)


def _show(scores: list[Scores]) -> None:
    """Print a table a policy and task, the base beside a trained policy where it was evaluated alike, and the files."""
    from progrpo_cli.console import results
    from progrpo_cli.evaluation.table import result_tables
    from progrpo_cli.evaluation.targets import policy_directory
    from progrpo_cli.policies import policy

    console = results()
    for part in result_tables(scores, lambda base: policy_directory(policy.resolve(base))):
        console.print(part, markup=False)
