"""``progrpo eval``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from progrpo_cli import policy
from progrpo_cli.config import demands, paths, versions
from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import digest
from progrpo_cli.console import log, results
from progrpo_cli.errors import RequestError, nearest
from progrpo_cli.evaluation.scores_file import Scores
from progrpo_cli.evaluation.settings import EvalSettings, samples_needed
from progrpo_cli.heavy import heavy_imports
from progrpo_cli.records.provenance import now
from progrpo_cli.records.rundir import RunDirectory, find_runs
from progrpo_cli.sampling.base import Sampler
from progrpo_cli.sampling.vllm_setup import require_vllm
from progrpo_cli.tasks.base import Split, Task
from progrpo_cli.tasks.sections import TaskConfig
from progrpo_cli.tracking.wandb_run import Tracker, tracker, wandb_mode

RUNS = Path("runs")
BACKENDS = ("hf", "vllm")
PACKAGED = {paths.LAB_BASE: ["model=lab"], paths.SMOLLM2: ["model=smollm2-135m", "task=countdown_chat"]}
"""The policies that packages carry, and how they are asked unless the request says otherwise."""
COLDEST = 0.01
"""Temperatures below it are as good as greedy, and vLLM does not have them."""
SPLIT_NAMES: dict[str, Split] = {"test": "test", "validation": "validation", "train": "rl", "rl": "rl"}
"""What --split takes; configurations and scores call the training problems ``rl``."""


def split_named(name: str) -> Split:
    """The split of a task that ``--split`` names.

    Raises:
        RequestError: there is none of that name.
    """
    if name not in SPLIT_NAMES:
        raise RequestError(f"--split {name}: no such split{nearest(name, SPLIT_NAMES)}")
    return SPLIT_NAMES[name]


def targets(target: str | None) -> list[RunDirectory | policy.Source]:
    """What a TARGET names: a run, every finished run of a study, or a policy; None: the newest finished run.

    Raises:
        RequestError: it names nothing that can be evaluated.
    """
    if target is None:
        finished = [run for run in find_runs(RUNS) if run.finished] if RUNS.is_dir() else []
        if not finished:
            raise RequestError(f"no finished run under {RUNS}/; `progrpo train` makes one, or name a TARGET")
        newest = max(finished, key=lambda run: run.manifest()["finished_at"])
        log.info(f"evaluating the newest finished run, {newest.path}")
        return [newest]
    directory = Path(target)
    if RunDirectory(directory).exists:
        run = RunDirectory(directory)
        if not run.finished:
            raise RequestError(f"{target} is not finished (status {run.status()}): there is no policy to evaluate yet")
        return [run]
    if (directory / "study.yaml").is_file():
        runs = [run for run in find_runs(directory / "trials") if run.finished]
        if not runs:
            raise RequestError(f"study {target} has no finished run")
        return list(runs)
    return [policy.resolve(target)]


@dataclass(frozen=True)
class Request:
    """How targets are evaluated; what is None follows the target."""

    ks: list[int]
    n: int | None = None
    tasks: list[str] | None = None
    settings: tuple[str, ...] = ()
    """``task.KEY=VALUE`` for each of the tasks."""
    backend: str = "hf"
    temperatures: tuple[float, ...] = ()
    """Each is an evaluation of its own; 0 is greedy; none: the run's own."""
    top_p: float = 1.0
    limit: int | None = None
    fresh: bool = False
    split: Split = "test"
    trust_remote_code: bool = False
    """Asked for here, not read from the run: a run directory may come from somebody else."""
    trust_config: bool = False
    """For the same reason: what the run's configuration asks for (see `config/demands.py`) is taken from it."""

    def __post_init__(self) -> None:
        """Refuse what no target could satisfy, before anything is loaded or written."""
        samples_needed(self.ks, self.n)
        wandb_mode(None)
        if self.backend not in BACKENDS:
            raise RequestError(f"unknown backend {self.backend!r}{nearest(self.backend, BACKENDS)}")
        if self.backend == "vllm":
            require_vllm("--backend vllm")
        for temperature in self.temperatures:
            if temperature != 0 and not COLDEST <= temperature < math.inf:
                raise RequestError(
                    f"--temperature {temperature:g}: must be 0 (greedy), or finite and at least {COLDEST}"
                )
            if self.temperatures.count(temperature) > 1:
                raise RequestError(f"--temperature {temperature:g}: is there twice")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"--top-p {self.top_p}: must be above 0 and at most 1")
        if self.limit is not None and self.limit < 1:
            raise RequestError(f"--limit {self.limit}: must be at least 1")
        known = paths.names(paths.EXPERIMENTS / "task")
        for name in self.tasks or []:
            if name not in known:
                raise RequestError(f"unknown task {name!r}{nearest(name, known)}")
        for setting in self.settings:
            if not setting.startswith("task.") or not self.tasks:
                raise RequestError(f"--set {setting}: takes task.KEY=VALUE, for the tasks that --tasks names")
        if self.settings:
            self.task_configs()

    def task_configs(self) -> list[TaskConfig]:
        """The tasks asked for; none: the target's own is meant."""
        return [compose([f"task={name}", *self.settings]).task for name in self.tasks or []]


def evaluate_target(target: RunDirectory | policy.Source, request: Request) -> list[Scores]:
    """Evaluate one target on each task asked for, and return the scores in their order.

    A policy that is no run of ours gets a directory ``runs/eval-<name>/`` of its own, so that its scores are kept,
    tracked and reported like those of a run.
    """
    if isinstance(target, RunDirectory):
        _refuse_demands_of(target, request)
        with target.lock(), tracker(target, target.config(), study=target.manifest()["study"]) as tracked:
            return evaluate_run(target, request, tracked)
    config = compose(PACKAGED.get(target.label, [f"model.path={json.dumps(target.location)}"]))
    run = RunDirectory(RUNS / f"eval-{_directory_name(target)}")
    with run.lock(), run.nothing_left_of_a_wrong_request():
        if not run.exists:
            identity = digest({"model": target.label, "fingerprint": target.fingerprint()})
            run.start(config, kind="model", model=target.label, study=None, config_hash=identity)
        _refuse_demands_of(run, request)
        run.update(status="running", finished_at=None, error=None)
        try:
            with tracker(run, config) as tracked:
                scores = evaluate_run(run, request, tracked)
        except KeyboardInterrupt:
            run.update(status="interrupted", finished_at=now())
            raise
        except Exception as error:
            run.update(status="failed", finished_at=now(), error=f"{type(error).__name__}: {error}")
            raise
        run.update(status="finished", finished_at=now())
    return scores


def _refuse_demands_of(run: RunDirectory, request: Request) -> None:
    """Raise RequestError if the run's own files ask for what is used of them here and nobody here asked for it."""
    used = () if request.trust_config else ("tracking.",) if request.tasks else ("task.", "tracking.")
    found = {key: value for key, value in run.demands().items() if key.startswith(used)}
    demands.refuse(str(run.config_path), found, "if you trust whoever made it, add --trust-config")


def evaluate_run(run: RunDirectory, request: Request, tracked: Tracker) -> list[Scores]:
    """Evaluate the policy of a run directory and send the scores to its tracker."""
    from progrpo_cli.evaluation.run import evaluate

    config, manifest = run.config(), run.manifest()
    is_run = manifest["kind"] == "run"
    source = policy.Source(run.name, str(run.policy)) if is_run else policy.resolve(manifest["model"])
    configs = request.task_configs() or [versions.of_code(config).task]  # today's code judges, whatever judged then
    all_scores = []

    @cache
    def load(dtype: str, chat: bool) -> tuple[Any, Any]:
        """Once for all temperatures."""
        device = policy.choose_device(config.device)
        return policy.load(source, dtype, device, chat=chat, trust_remote_code=request.trust_remote_code)

    temperatures = request.temperatures or (config.train.temperature,)
    for task, temperature in product(configs, temperatures):
        greedy = temperature == 0
        if greedy and (left := sorted({k for k in request.ks if k > 1})):
            log.info(
                f"temperature 0 is greedy, one sample a problem: pass@1 alone, without k = {', '.join(map(str, left))}"
            )
        settings = EvalSettings(
            task=task,
            split=request.split,
            n=1 if greedy else samples_needed(request.ks, request.n),
            temperature=temperature,
            top_p=1.0 if greedy else request.top_p,  # which changes nothing there
            seed=config.seed,
            backend=request.backend,
            dtype=config.model.dtype,
            limit=request.limit,
            policy="" if is_run else source.fingerprint(),
        )
        root = run.path / "eval"
        if request.fresh and (root / settings.directory_name()).is_dir():
            log.info(f"the earlier samples are kept in {run.set_aside(f'eval/{settings.directory_name()}')}")
        done = evaluate(
            root,
            settings,
            [1] if greedy else request.ks,
            make_sampler=_sampler_maker(source, settings, request.trust_remote_code, load),
            described={
                "method": config.method.name if is_run else None,
                "method_version": config.method.version if is_run else None,
                "policy": "base" if source.label == paths.LAB_BASE else source.label,
                "base": config.model.path if is_run else None,
                "config_hash": manifest["config_hash"],
                "eval_dir": str(root / settings.directory_name()),
            },
            title=f"{run.name} on {task.label} ({request.split})"
            + (f", temperature {temperature:g}" if len(temperatures) > 1 else ""),
            trained_on=run.trained_on() if is_run else (),
        )
        samples = done.samples if config.tracking.wandb.log_samples else None
        tracked.scores(done.directory.name, done.scores.as_json(), samples)
        all_scores.append(done.scores)
    return all_scores


def _sampler_maker(
    source: policy.Source,
    settings: EvalSettings,
    trust_remote_code: bool,
    load: Callable[[str, bool], tuple[Any, Any]],
) -> Callable[[Task], Sampler]:
    def make(task: Task) -> Sampler:
        asked: dict[str, Any] = {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_new_tokens": task.max_new_tokens,
            "chat": task.chat,
        }
        if settings.backend == "vllm":
            with heavy_imports():
                from progrpo_cli.sampling.vllm import VllmSampler

            tokenizer = policy.load_tokenizer(source, chat=task.chat, trust_remote_code=trust_remote_code)
            return VllmSampler(
                source.location,
                tokenizer,
                dtype=settings.dtype,
                trust_remote_code=trust_remote_code,
                **asked,
            )
        with heavy_imports():
            from progrpo_cli.sampling.hf import HfSampler

        model, tokenizer = load(settings.dtype, task.chat)
        return HfSampler(model, tokenizer, **asked)

    return make


def _directory_name(source: policy.Source) -> str:
    """``owner--name`` for a hub name (and ours); for a directory its name and a few digits of its place and content."""
    if source.directory is None or source.from_a_package:
        return source.label.replace("/", "--")
    place = source.directory.resolve()
    return f"{place.name}-{digest([str(place), source.fingerprint()])[:6]}"


def show(scores: list[Scores]) -> None:
    """Print a table a policy and task, the base beside a trained policy where it was evaluated alike, and the files."""
    from progrpo_cli.evaluation.table import shown

    console = results()
    for part in shown(scores, lambda base: RUNS / f"eval-{_directory_name(policy.resolve(base))}"):
        console.print(part, markup=False)
