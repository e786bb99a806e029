"""Resolve and evaluate the targets of ``progrpo eval``: runs, and policies that no run trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from progrpo_cli.config import demands, paths, versions
from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import digest
from progrpo_cli.config.paths import RUNS
from progrpo_cli.console import log
from progrpo_cli.errors import RequestError
from progrpo_cli.evaluation.request import Request
from progrpo_cli.evaluation.scores_file import Scores
from progrpo_cli.evaluation.settings import EvalSettings, samples_needed
from progrpo_cli.heavy import heavy_imports
from progrpo_cli.policies import policy
from progrpo_cli.records.find import find_runs, is_study
from progrpo_cli.records.provenance import now
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.sampling.base import Sampler
from progrpo_cli.tasks.base import Task
from progrpo_cli.tracking.wandb_run import Tracker, tracker

PACKAGED_POLICIES = {paths.LAB_BASE: ["model=lab"], paths.SMOLLM2: ["model=smollm2-135m", "task=countdown_chat"]}
"""Policies that come with Python packages, and the overrides for evaluating them."""


def resolve_targets(target: str | None) -> list[RunDirectory | policy.Source]:
    """Return the runs or the policy that a TARGET names.

    Args:
        target: a run directory, a study directory (all its finished runs), or a policy; None: the newest finished run.

    Raises:
        RequestError: it names nothing that can be evaluated.
    """
    if target is None:
        finished = [run for run in find_runs(RUNS) if run.finished] if RUNS.is_dir() else []
        if not finished:
            raise RequestError(f"no finished run under {RUNS}/; run `progrpo train` first or name a TARGET")
        newest = max(finished, key=lambda run: run.manifest()["finished_at"] or "")
        log.info(f"evaluating the newest finished run, {newest.path}")
        return [newest]
    directory = Path(target)
    if RunDirectory(directory).exists:
        run = RunDirectory(directory)
        if not run.finished:
            raise RequestError(f"{target} is not finished (status {run.status()}) and has no policy to evaluate yet")
        return [run]
    if is_study(directory):
        runs = [run for run in find_runs(directory / "trials") if run.finished]
        if not runs:
            raise RequestError(f"study {target} has no finished run")
        return list(runs)
    return [policy.resolve(target)]


def evaluate_target(target: RunDirectory | policy.Source, request: Request) -> list[Scores]:
    """Evaluate one target on every requested task and temperature.

    A policy that no run trained gets its own directory ``runs/eval-<name>/``, so that its scores are stored, tracked
    and reported like those of a run.

    Raises:
        RequestError: the run's configuration has demands that the request does not grant, or the evaluation is refused.
        WorkError: the judge failed on too many samples.
    """
    if isinstance(target, RunDirectory):
        _refuse_demands(target, request)
        with target.lock(), tracker(target, target.config(), study=target.manifest()["study"]) as tracked:
            return evaluate_run(target, request, tracked)
    config = compose(
        PACKAGED_POLICIES.get(target.label, [f"model.path={json.dumps(target.location, ensure_ascii=False)}"])
    )
    run = RunDirectory(policy_directory(target))
    with run.lock(), run.deleted_on_request_error():
        if not run.exists:
            identity = digest({"model": target.label, "fingerprint": target.fingerprint()})
            run.start(config, kind="model", model=target.label, study=None, config_hash=identity)
        _refuse_demands(run, request)
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


def _refuse_demands(run: RunDirectory, request: Request) -> None:
    """Raise RequestError if the run's files have demands that matter here and are not granted by --trust-config."""
    # With --tasks the run's own task judges nothing, but its class is needed to read the configuration.
    used = ("tracking.", *demands.IMPORTED) if request.tasks else ("task.", "tracking.", *demands.IMPORTED)
    used_demands = {key: value for key, value in run.demands().items() if key.startswith(used)}
    if not request.trust_config:
        demands.refuse(str(run.config_path), used_demands, "if you trust whoever made it, add --trust-config")


def evaluate_run(run: RunDirectory, request: Request, tracked: Tracker) -> list[Scores]:
    """Evaluate the policy of a run directory and send the scores to its tracker."""
    from progrpo_cli.evaluation.run import evaluate

    config, manifest = run.config(), run.manifest()
    is_run = manifest["kind"] == "run"
    source = policy.Source(run.name, str(run.policy)) if is_run else policy.resolve(manifest["model"])
    configs = request.task_configs() or [
        versions.with_code_versions(config).task
    ]  # judged by today's code, not the run's version
    all_scores = []

    @cache  # load once for all temperatures
    def load(dtype: str, chat: bool) -> tuple[Any, Any]:
        device = policy.choose_device(config.device)
        return policy.load(source, dtype, device, chat=chat, trust_remote_code=request.trust_remote_code)

    with heavy_imports():
        from progrpo_cli.sampling.ends import end_tokens, token_texts
    plain = policy.load_tokenizer(source, chat=False, trust_remote_code=request.trust_remote_code)
    generation = policy.load_generation_config(source, trust_remote_code=request.trust_remote_code)
    ends = end_tokens(plain, generation, config.model.stop_tokens)
    temperatures = request.temperatures or (config.train.temperature,)
    for task, temperature in product(configs, temperatures):
        greedy = temperature == 0
        if greedy and (skipped_ks := sorted({k for k in request.ks if k > 1})):
            log.info(
                "temperature 0 is greedy and has one sample per problem: only pass@1 is computed, not k = "
                + ", ".join(map(str, skipped_ks))
            )
        settings = EvalSettings(
            task=task,
            split=request.split,
            n=1 if greedy else samples_needed(request.ks, request.n),
            temperature=temperature,
            top_p=1.0 if greedy else request.top_p,  # top-p has no effect on greedy decoding
            seed=config.seed,
            backend=request.backend,
            dtype=config.model.dtype,
            limit=request.limit,
            policy="" if is_run else source.fingerprint(),
            stop_tokens=tuple(config.model.stop_tokens),
            other_ends=() if set(ends) == {plain.eos_token_id} else token_texts(plain, ends),
        )
        root = run.evaluations
        if request.fresh and (root / settings.directory_name()).is_dir():
            log.info(f"the earlier samples are kept in {run.set_aside(f'{root.name}/{settings.directory_name()}')}")
        evaluation = evaluate(
            root,
            settings,
            [1] if greedy else request.ks,
            make_sampler=_sampler_maker(source, settings, request.trust_remote_code, load, ends),
            policy_fields={
                "method": config.method.name if is_run else None,
                "method_version": config.method.version if is_run else None,
                "policy": "base" if source.label == paths.LAB_BASE else source.label,
                "base": config.model.path if is_run else None,
                "config_hash": manifest["config_hash"],
                "end_tokens": list(token_texts(plain, ends)),
                "eval_dir": str(root / settings.directory_name()),
            },
            title=f"{run.name} on {task.label} ({request.split})"
            + (f", temperature {temperature:g}" if len(temperatures) > 1 else ""),
            trained_on=run.trained_on() if is_run else (),
        )
        samples = evaluation.samples if config.tracking.wandb.log_samples else None
        tracked.log_scores(evaluation.directory.name, evaluation.scores.as_json(), samples)
        all_scores.append(evaluation.scores)
    return all_scores


def _sampler_maker(
    source: policy.Source,
    settings: EvalSettings,
    trust_remote_code: bool,
    load: Callable[[str, bool], tuple[Any, Any]],
    ends: Sequence[int],
) -> Callable[[Task], Sampler]:
    def make(task: Task) -> Sampler:
        options: dict[str, Any] = {
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
                ends=ends,
                trust_remote_code=trust_remote_code,
                **options,
            )
        with heavy_imports():
            from progrpo_cli.sampling.hf import HfSampler

        model, tokenizer = load(settings.dtype, task.chat)
        return HfSampler(model, tokenizer, stop_tokens=settings.stop_tokens, **options)

    return make


def policy_directory(source: policy.Source) -> Path:
    """The run directory for evaluations of a policy that no run trained, ``runs/eval-<name>``.

    The name is ``owner--name`` for policies of a hub or a package. For a directory it is the directory's name and a
    short hash of its path and content.
    """
    if source.directory is None or source.is_packaged:
        name = source.label.replace("/", "--")
    else:
        directory = source.directory.resolve()
        name = f"{directory.name}-{digest([str(directory), source.fingerprint()])[:6]}"
    return RUNS / f"eval-{name}"
