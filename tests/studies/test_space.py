"""Spaces: the shipped ones compose, and invalid ones are refused with one line."""

from typing import Any

import pytest

from progrpo_cli.config import paths
from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.errors import RequestError
from progrpo_cli.studies.plan import load_plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import load_space, parse_space

SHIPPED = {
    "arm_alpha": 5,
    "arm_gate": 4,
    "arm_joint": 0,
    "arm_low_fraction": 4,
    "clip_high": 6,
    "demo": 2,
    "group_size": 4,
    "lab_recipe": 0,
    "methods": 13,
    "pareto": 0,
    "temperature": 6,
}
ALPHA = "method.arm.alpha"
SMALL: dict[str, Any] = {
    "parameters": {"method.arm.alpha": [0.0, 1.0]},
    "seeds": [0],
    "objectives": [{"metric": "pass@32"}],
}


def test_every_shipped_space_is_tested() -> None:
    assert paths.names(paths.SWEEPS) == sorted(SHIPPED)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_space_composes(name: str, tmp_path) -> None:
    plan = make_plan(load_space(name), [], tmp_path / name)
    assert len(plan.grid) == SHIPPED[name]
    assert len({trial.config_hash for trial in plan.grid}) == len(plan.grid)
    plan.freeze()
    assert load_plan(tmp_path / name) == plan
    assert (paths.SWEEPS / f"{name}.yaml").read_text().startswith("# ")  # what `progrpo list spaces` shows


def test_the_space_methods_has_all_methods() -> None:
    assert len(load_space("methods").grid()) == len(paths.names(paths.EXPERIMENTS / "method"))


def test_a_trial_has_the_same_configuration_as_train(tmp_path) -> None:
    plan = make_plan(load_space("clip_high"), ["train.steps=7"], tmp_path)
    for trial in plan.grid:
        overrides = [f"{key}={value}" for key, value in trial.parameters.items()]
        assert trial.config_hash == config_hash(compose([*overrides, "train.steps=7"]))
    takes_arm = {**SMALL, "overrides": ["method=dr_grpo"]}
    (_, trial) = make_plan(parse_space(takes_arm, "x"), [], tmp_path).grid
    assert trial.config_hash == config_hash(compose(["method=dr_grpo", "method.arm.alpha=1.0"]))


def test_conditional_parameters_and_every_type() -> None:
    space = parse_space(
        {
            **SMALL,
            "parameters": {
                "method": {"type": "categorical", "choices": ["grpo", "progrpo"]},
                "method.arm.alpha": {"values": [0.5, 1.0], "when": {"method": "progrpo"}},
                "train.steps": {"type": "int", "low": 2, "high": 6, "step": 4},
                "train.learning_rate": {"type": "log-float", "low": 1e-4, "high": 1e-2, "points": 3},
            },
        },
        "x",
    )
    grid = space.grid()
    assert len(grid) == (1 + 2) * 2 * 3
    assert [p["train.learning_rate"] for p in grid[:3]] == [1e-4, 1e-3, 1e-2]
    assert all(("method.arm.alpha" in p) == (p["method"] == "progrpo") for p in grid)


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"train.temperature": [0.7, 1.0]}, "temperature": 1.0},
        {"parameters": {"task.rl_problems": [100, 1000]}},
        {
            "parameters": {"train.group_size": [4, 16]},
            "overrides": ["train.eval_every=2"],
            "pruner": {"name": "median", "metric": "pass@1"},
        },
    ],
)
def test_parameters_that_keep_scores_comparable_may_vary(changes: dict[str, Any], tmp_path) -> None:
    plan = make_plan(parse_space({**SMALL, **changes}, "mine"), [], tmp_path)
    assert len({trial.config_hash for trial in plan.grid}) == 2


def test_every_run_may_sample_the_same_number_of_completions(tmp_path) -> None:
    space: dict[str, Any] = {
        **SMALL,
        "samples_per_run": 4096,
        "parameters": {"train.prompts_per_rollout": [8, 30], "train.updates_per_rollout": [1, 4]},
        "overrides": ["train.group_size=16"],
    }
    plan = make_plan(parse_space(space, "x"), ["train.micro_batch_size=16"], tmp_path)
    assert [trial.config.train.steps for trial in plan.grid] == [32, 128, 9, 36]
    assert [plan.runs_of(trial)[0].completions for trial in plan.grid] == [4096, 4096, 4320, 4320]
    assert plan.max_updates == 128
    plan.freeze()
    assert load_plan(tmp_path).grid == plan.grid
    with pytest.raises(RequestError, match=r"'train.steps=9': samples_per_run decides the number of updates"):
        make_plan(parse_space(space, "x"), ["train.steps=9"], tmp_path)
    both = {**space, "parameters": {"train.steps": [1, 2]}}
    with pytest.raises(RequestError, match=r"parameters.train.steps: samples_per_run decides the steps"):
        make_plan(parse_space(both, "x"), [], tmp_path)


def test_the_most_updates_that_a_run_makes(tmp_path) -> None:
    steps = {"type": "int", "low": 40, "high": 80, "step": 20}
    for parameters, most in (
        ({ALPHA: [0.0]}, 100),
        ({"train.steps": steps}, 80),
        ({ALPHA: [0.0, 1.0], "train.steps": {**steps, "when": {ALPHA: 1.0}}}, 100),
    ):
        assert make_plan(parse_space({**SMALL, "parameters": parameters}, "x"), [], tmp_path).max_updates == most


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"method.arm.alhpa": [1.0]}}, "method.arm.alpha"),
        ({"parameters": {"method": ["grpo", "progrp"]}}, "progrpo"),
        ({"parameters": {"method.arm.alpha": [0.0, "x"]}}, "method.arm.alpha"),
        ({"parameters": {"method.arm.alpha": {"type": "flaot", "low": 0, "high": 1}}}, "log-float"),
        ({"parameters": {"method.arm.alpha": {"type": "float", "low": 1, "high": 0}}}, "below high"),
        ({"parameters": {"method.arm.alpha": {"type": "log-float", "low": 0, "high": 1, "points": 2}}}, "above 0"),
        ({"parameters": {"method.arm.alpha": {"type": "float", "low": 0, "high": 1}}}, "points"),
        (
            {"parameters": {"method.arm.alpha": {"values": [1.0], "when": {"method": "progrpo"}}}},
            "not an earlier parameter",
        ),
        ({"objectives": [{"metric": "pass@8"}]}, "not measured"),
        ({"objectives": [{"metric": "pass@1"}, {"metric": "pass@1"}]}, "twice"),
        ({"objectives": [{"metric": "pass@1"}, {"metric": "pass@32"}], "pruner": "median"}, "several objectives"),
        ({"objectives": [{"metric": "entropy", "direction": "minimize"}], "pruner": "median"}, "minimize"),
        ({"pruner": "median"}, "train.eval_every"),
        ({"sampler": "tpe"}, "budget.trials"),
        ({"sampler": {"name": "nsga2"}, "budget": {"trials": 3}}, "several objectives"),
        ({"sampler": "tpee"}, "tpe"),
        ({"seeds": [0, 0]}, "seeds"),
        ({"pruners": "none"}, "pruner"),
        ({"k": [0]}, "greater than or equal to 1"),
        ({"k": []}, "at least 1"),
        (
            {"parameters": {"task.validation_problems": [4, 6]}},
            "task.validation_problems is 4 or 6: .* measured differently",
        ),
        (
            {"parameters": {"task": ["countdown", "math500"]}},
            'task.kind is "countdown" or "maths": .* measured differently',
        ),
        (
            {
                "parameters": {"task.validation_problems": {"type": "int", "low": 4, "high": 6}},
                "sampler": "tpe",
                "budget": {"trials": 3},
            },
            "task.validation_problems is 4 or 6",
        ),
        ({"parameters": {"task.max_new_tokens": [16, 24]}}, "task.max_new_tokens is 16 or 24: .* measured differently"),
        (
            {"parameters": {"task": ["countdown", "countdown_chat"]}},
            "task.max_new_tokens is 30 or 256: .* measured differently",
        ),
        ({"parameters": {"model.dtype": ["float32", "bfloat16"]}}, "model.dtype is .*: .* measured differently"),
        ({"parameters": {"train.temperature": [0.7, 1.0]}}, "train.temperature is 0.7 or 1.0: .*temperature: 1.0"),
        (
            {
                "parameters": {"train.temperature": [0.7, 1.0]},
                "temperature": 1.0,
                "overrides": ["train.eval_every=2"],
                "pruner": "median",
            },
            "pruner median .* train.temperature",
        ),
        ({"temperature": 0}, "temperature: .*greater than 0"),
        ({"parameters": {"seed": [0, 1]}}, "parameters.seed: .*`seeds`"),
        ({"parameters": {"train.save_every": [10, 20]}}, "parameters.train.save_every: it cannot change a score"),
        (
            {
                "parameters": {
                    "model": ["lab", "qwen2.5-0.5b-instruct"],
                    "model.path": ["progrpo/lab-base"],
                    "model.dtype": ["float32"],
                }
            },
            "are the same configuration",
        ),
        (
            {"overrides": ["task=math500"], "objectives": [{"metric": "distinct_correct"}]},
            "distinct_correct: task math500 has no canonical form",
        ),
        (
            {"parameters": {"method.arm.alpha": [0.0, 1.0], "method": {"values": ["progrpo"], "when": {ALPHA: 1.0}}}},
            "parameters.method.when: method is a group",
        ),
        (
            {"parameters": {"train.group_size": [4, 16]}, "overrides": ["train.eval_every=2"], "pruner": "median"},
            "train.group_size is 4 or 16, and .*metric: pass@1",
        ),
    ],
)
def test_an_invalid_space_is_refused_with_one_line(changes: dict[str, Any], message: str, tmp_path) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        make_plan(parse_space({**SMALL, **changes}, "mine"), [], tmp_path)
    assert "\n" not in str(refused.value)
