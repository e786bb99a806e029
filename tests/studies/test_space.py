"""Spaces: what ships composes, and what is wrong is one line."""

from typing import Any

import pytest

from progrpo_cli.config import paths
from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.errors import RequestError
from progrpo_cli.studies.plan import load_plan, make_plan
from progrpo_cli.studies.space import load_space, parse_space

SHIPPED = {
    "arm_alpha": 5,
    "arm_gate": 4,
    "arm_joint": 0,
    "arm_low_fraction": 4,
    "clip_high": 6,
    "demo": 2,
    "group_size": 4,
    "methods": 13,
    "pareto": 0,
    "temperature": 6,
}
SMALL: dict[str, Any] = {
    "parameters": {"method.arm.alpha": [0.0, 1.0]},
    "seeds": [0],
    "objectives": [{"metric": "pass@32"}],
}


def test_the_list_is_whole() -> None:
    assert paths.names(paths.SWEEPS) == sorted(SHIPPED)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_space_composes(name: str, tmp_path) -> None:
    plan = make_plan(load_space(name), [], tmp_path / name)
    assert len(plan.grid) == SHIPPED[name]
    assert len({trial.config_hash for trial in plan.grid}) == len(plan.grid)
    plan.freeze()
    assert load_plan(tmp_path / name) == plan
    assert (paths.SWEEPS / f"{name}.yaml").read_text().startswith("# ")  # what `progrpo list spaces` shows


def test_methods_are_all_there_are() -> None:
    assert len(load_space("methods").grid()) == len(paths.names(paths.EXPERIMENTS / "method"))


def test_a_trial_is_the_configuration_that_train_makes(tmp_path) -> None:
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
    ("changes", "message"),
    [
        ({"parameters": {"method.arm.alhpa": [1.0]}}, "method.arm.alpha"),
        ({"parameters": {"method": ["grpo", "progrp"]}}, "progrpo"),
        ({"parameters": {"method.arm.alpha": [0.0, "x"]}}, "method.arm.alpha"),
        ({"parameters": {"method.arm.alpha": {"type": "flaot", "low": 0, "high": 1}}}, "log-float"),
        ({"parameters": {"method.arm.alpha": {"type": "float", "low": 1, "high": 0}}}, "below high"),
        ({"parameters": {"method.arm.alpha": {"type": "log-float", "low": 0, "high": 1, "points": 2}}}, "above 0"),
        ({"parameters": {"method.arm.alpha": {"type": "float", "low": 0, "high": 1}}}, "points"),
        ({"parameters": {"method.arm.alpha": {"values": [1.0], "when": {"method": "progrpo"}}}}, "before it"),
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
    ],
)
def test_a_wrong_space_is_one_line(changes: dict[str, Any], message: str, tmp_path) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        make_plan(parse_space({**SMALL, **changes}, "mine"), [], tmp_path)
    assert "\n" not in str(refused.value)
