"""The command line: parse, call one function, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from progrpo_cli import __version__, processes
from progrpo_cli.errors import Interrupted, ProgrpoError, RequestError
from progrpo_cli.reporting import escape

app = typer.Typer(
    name="progrpo",
    help="A laboratory for exploration in reinforcement learning with verifiable rewards.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Log warnings only.")]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh/--resume", help="Start again (what is there is kept aside), or go on with what is there (default)."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[OVERRIDE]...", help="Hydra overrides, e.g. method=grpo train.steps=50.")
]


# The class of every complaint of the parser. Typer carries a copy of Click whose names are private; this one is public.
_UsageError: Any = typer.BadParameter.__bases__[0]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"progrpo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@contextmanager
def _command(name: str, verbose: bool, quiet: bool) -> Iterator[None]:
    from progrpo_cli.console import set_up_logging

    set_up_logging(-1 if quiet or not processes.is_main() else int(verbose))
    if name != "train":
        processes.require_one(name)
    try:
        yield
    except KeyboardInterrupt:  # Typer would make it a silent return value
        raise Interrupted("interrupted; the same command goes on") from None


def _print(result: Mapping[str, Any], as_json: bool, text: str) -> None:
    typer.echo(json.dumps(result, indent=2) if as_json else text)


@app.command()
def train(
    overrides: Overrides = None,
    experiment: Annotated[str | None, typer.Option(help="An experiment of experiments/experiment/.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Default: runs/ and a name made of the configuration.")] = None,
    fresh: Fresh = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the configuration and its hash.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train a policy; without arguments ProGRPO on the embedded lab. The same command again goes on."""
    with _command("train", verbose, quiet):
        from progrpo_cli.commands import train as command

        if dry_run:
            if not processes.is_main():
                return
            resolved = command.dry_run(overrides or [], experiment)
            import yaml

            shown = yaml.safe_dump(resolved["config"], sort_keys=False)
            _print(resolved, as_json, f"{shown}# config_hash: {resolved['config_hash']}")
            return
        result = command.train(overrides or [], experiment=experiment, run_dir=run_dir, fresh=fresh)
        if result is None:  # the main process says how it went
            return
        last = result["last"]
        _print(
            result,
            as_json,
            f"{result['run_dir']}: {result['status']} after {last['step']} updates, reward {last['reward']:.3f}, "
            f"entropy {last['entropy']:.3f} nats\nnext: progrpo eval {result['run_dir']}",
        )


@app.command("eval")
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
    with _command("eval", verbose, quiet):
        from progrpo_cli.commands import evaluate as command

        request = command.Request(
            ks=_integers("--k", k),
            n=n,
            tasks=tasks.split(",") if tasks else None,
            settings=tuple(settings or ()),
            backend=backend,
            temperatures=() if temperature is None else _numbers("--temperature", temperature),
            top_p=top_p,
            limit=limit,
            split=command.split_named(split),
            fresh=fresh,
            trust_remote_code=trust_remote_code,
            trust_config=trust_config,
        )
        found = command.targets(target)
        scores = [score for each in found for score in command.evaluate_target(each, request)]
        if as_json:
            documents = [score.as_json() for score in scores]
            typer.echo(json.dumps(documents[0] if len(documents) == 1 else {"evaluations": documents}, indent=2))
        else:
            command.show(scores)


@app.command()
def sweep(
    space: Annotated[str | None, typer.Option(help="A space of sweeps/, e.g. arm_alpha, or a YAML file.")] = None,
    overrides: Overrides = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, separated by commas; default: the space's.")] = None,
    trials: Annotated[int | None, typer.Option(help="Sets of parameters to try; default: the space's budget.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: the space's.")] = None,
    sampler: Annotated[str | None, typer.Option(help="grid, tpe, nsga2 or random; default: the space's.")] = None,
    storage: Annotated[
        str | None, typer.Option(help="postgresql+psycopg://USER@HOST/DB; default: a journal file of the study.")
    ] = None,
    launcher: Annotated[str, typer.Option(help="Where workers are started: local or slurm.")] = "local",
    study: Annotated[str | None, typer.Option(help="The study's name; default: the space's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every planned run and an estimate.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Print where the study stands.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Give runs that failed too often all their tries again.")
    ] = False,
    worker: Annotated[bool, typer.Option("--worker", help="Be one worker of an existing --study.")] = False,
    trust_config: Annotated[
        bool,
        typer.Option(
            "--trust-config", help="Take code, hosts and files from study.yaml (--worker) or the --space file."
        ),
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Study a space of configurations over seeds; the same command again runs only what is missing."""
    with _command("sweep", verbose, quiet):
        from progrpo_cli.commands import sweep as command

        if trust_config and not worker and not (space or "").endswith(".yaml"):
            raise RequestError(
                "--trust-config is for --worker and for a space's own file: a shipped space asks for nothing"
            )
        if worker:
            command.work(study, storage, trust_config=trust_config)
            return
        if status:
            result = command.status(study, space, storage)
        else:
            settings = command.Settings(
                seeds=None if seeds is None else _integers("--seeds", seeds),
                trials=trials,
                workers=workers,
                sampler=sampler,
                storage=storage,
                launcher=launcher,
                trust_config=trust_config,
            )
            result = command.sweep(
                space, overrides or [], settings, study=study, dry_run=dry_run, retry_failed=retry_failed
            )
        if as_json:
            typer.echo(json.dumps(result, indent=2))
        else:
            command.show(result)


@app.command()
def report(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="Run or study directories, wandb:ENTITY/PROJECT, wandb-offline:DIR; default: runs/.",
        ),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="term, md, tex, csv, html, separated by commas.")] = (
        "term,md,tex,csv,html"
    ),
    out: Annotated[Path, typer.Option(help="Where the files go.")] = Path("report"),
    baseline: Annotated[str | None, typer.Option(help="The method differences are taken to; default: grpo.")] = None,
    k: Annotated[str | None, typer.Option(help="The k of Pass@k; default: those that were evaluated.")] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Show what was measured differently side by side, with footnotes.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no W&B server: read what was fetched before.")
    ] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Pass@k on the training problems beside the test's.")
    ] = False,
    power: Annotated[
        bool, typer.Option("--power", help="Say how many seeds and problems would show a difference with 80 %.")
    ] = False,
    difference: Annotated[float, typer.Option(help="The difference for --power, in a metric's own unit.")] = 0.05,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Tables and figures from what was logged to W&B."""
    with _command("report", verbose, quiet):
        from progrpo_cli.commands import report as command

        command.report(
            sources or [],
            formats=formats.split(","),
            out=out,
            baseline=baseline,
            k=None if k is None else _integers("--k", k),
            mixed=mixed,
            offline=offline,
            training=training,
            power=power,
            difference=difference,
            as_json=as_json,
        )


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="runs|methods|tasks|spaces|experiments", help="What to list.")],
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """List what there is."""
    with _command("list", verbose, quiet):
        from progrpo_cli.commands import listing as command

        rows = command.rows(what)
        _print({what: rows}, as_json, command.text(rows))


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) + 0.0 for part in text.split(","))  # -0 is 0
    except ValueError:
        raise RequestError(f"{option} {text}: numbers separated by commas are needed") from None


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"{option} {text}: whole numbers separated by commas are needed") from None


def run() -> None:
    """Run the command line and leave with the exit code of the contract."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to stop is like Ctrl-C
    try:
        app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except _UsageError as error:
        _fail(error.format_message(), RequestError.exit_code)
    except ProgrpoError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        from progrpo_cli.records.files import is_full

        if not is_full(error):
            traceback.print_exc()
        _fail(f"{error}; what was written before is kept, the same command goes on", 1)
    except Exception as error:
        traceback.print_exc()
        _fail(f"{type(error).__name__}: {error}", 1)


def _fail(message: str, code: int) -> None:
    if "--json" in sys.argv and processes.is_main():  # a complaint of the parser comes before the option was read
        typer.echo(json.dumps({"error": message, "exit_code": code}))
    who = "progrpo" if processes.is_main() else f"progrpo, process {processes.rank()}"
    typer.echo(f"{who}: {escape.plain(' '.join(message.split()))}", err=True)  # names of runs in it are untrusted
    sys.exit(code)
