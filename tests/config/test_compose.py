import hashlib
from pathlib import Path

import pytest

from progrpo_cli.config import paths
from progrpo_cli.config.compose import compose, keys, validate
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.config.values import canonical_json, flatten, to_yaml
from progrpo_cli.errors import RequestError
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import load_space

SHIPPED = [
    (group, name)
    for group in ("experiment", "method", "task", "model")
    for name in paths.names(paths.EXPERIMENTS / group)
]


@pytest.mark.parametrize(("group", "name"), SHIPPED)
def test_every_shipped_configuration_composes(group: str, name: str) -> None:
    config = compose([f"{group}={name}"])
    chosen = getattr(config, group)
    assert name.startswith(chosen if group == "experiment" else chosen.name)


def test_arm_alpha_is_five_values_with_zero_by_three_seeds(tmp_path: Path) -> None:
    plan = make_plan(load_space("arm_alpha"), [], tmp_path / "study")
    alphas = [trial.parameters["method.arm.alpha"] for trial in plan.grid]
    assert len(alphas) == 5
    assert 0 in alphas
    assert len(plan.seeds) == 3
    assert sum(len(plan.runs_of(trial)) for trial in plan.grid) == 15


def test_the_default_is_progrpo_on_the_lab() -> None:
    config = compose()
    assert (config.experiment, config.method.name, config.task.name) == ("lab", "progrpo", "countdown")
    assert config.train.updates_per_rollout == 2
    assert config.method.arm is not None
    assert (config.method.arm.gate, config.method.arm.scope) == ("any_correct", "all")
    assert (config.method.arm.low_fraction, config.method.arm.prompt_low_fraction) == (0.2, 1.0)


def test_overrides_and_experiment_option() -> None:
    config = compose(["method.arm.alpha=0.3", "+train.steps=7", "seed=5"], experiment="lab")
    assert config.method.arm is not None
    assert (config.method.arm.alpha, config.train.steps, config.seed) == (0.3, 7, 5)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method.arm.alhpa=1", "method.arm.alpha"),
        ("+method.arm.alhpa=1", "method.arm.alpha"),
        ("++train.stpes=1", "train.steps"),
        ("method=pogrpo", "progrpo"),
        ("experiment=labb", "lab"),
        ("task=countdwn", "countdown"),
        ("method.arm.gate=mixd", "mixed"),
        ("method.arm.alpha=nan", "finite"),
        ("method.arm.alpha=inf", "finite"),
        ("method.arm.alpha=strong", "number"),
        ("method.arm.low_fraction=0", "greater than 0"),
        ("method.arm.low_fraction=1.01", "less than or equal to 1"),
        ("train.steps=2.5", "integer"),
        ("train.steps='3'", "integer"),
        ("train.group_size=1", "greater than or equal to 2"),
        ("train.micro_batch_size=100", "does not divide"),
        ("tracking.wandb.mode=onlin", "online"),
        ("seed=1,2", "progrpo sweep"),
        ("~seed", "deleted"),
        ("seed", "KEY=VALUE"),
        ("method.name=grpo", "method=NAME"),
        ("task.kind=maths", "task=NAME"),
        ("task.generator=gsm_symbolic", "belongs to tasks of kind reasoning_gym"),
        ("task.prompt=spoken", "not a valid value"),
        ("method@x=grpo", "packages"),
        ("model.path=${oc.env:HOME}", "interpolations"),
        ("model.lora.alpha=8", "model.lora.rank: Field required"),
        ("model.lora.rnk=8", "model.lora.rank"),
        ("model.lora.rank=0", "greater than or equal to 1"),
        ("train.gradient_checkpointing=1", "boolean"),
        ("train.generation.backend=vlm", "vllm"),
        ("train.generation.mode=server", "train.generation.backend=vllm"),
        ("train.generation.server_url=localhost:8000", "http://127.0.0.1:8000"),
        ("train.generation.gpu_memory_utilization=2", "less than or equal to 1"),
    ],
)
def test_a_wrong_override_is_refused_with_one_line(override: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        compose([override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arm_options_are_refused_for_a_method_without_arm() -> None:
    with pytest.raises(RequestError, match="grpo does not take ARM; these methods do:"):
        compose(["method=grpo", "method.arm.alpha=1"])


def test_the_hash_does_not_cover_seed_tracking_and_device() -> None:
    default = config_hash(compose())
    for override in (
        "seed=3",
        "tracking.wandb.mode=disabled",
        "tracking.wandb.tags=[a]",
        "device=cpu",
        "model.name=x",
        "train.save_every=7",
        "train.keep_checkpoints=5",
        "train.keep_completions=5",
        "train.health.entropy_floor=0.5",
        "train.gradient_checkpointing=true",
        "train.generation.server_url=http://10.0.0.1:80",
        "train.generation.gpu_memory_utilization=0.5",
    ):
        assert config_hash(compose([override])) == default
    hashed = ["method=grpo", "method.arm.alpha=0.3", "train.steps=7", "train.learning_rate=1e-3", "model.path=a/b"]
    hashed += ["model.lora.rank=8", "train.generation.backend=vllm"]
    hashes = {config_hash(compose([override])) for override in hashed}
    assert len(hashes | {default}) == len(hashed) + 1


def test_a_frozen_configuration_is_read_back_unchanged() -> None:
    import yaml

    config = compose(["method=grpo", "seed=3"])
    assert validate(yaml.safe_load(to_yaml(config))) == config


def test_keys_include_all_keys_of_a_configuration() -> None:
    assert {"model.lora", "model.lora.rank", "method.arm", "method.arm.alpha"} <= set(keys())
    assert set(flatten(compose())) <= set(keys())
    assert set(flatten(compose(["model.lora.rank=8"]))) <= set(keys())


def test_a_key_of_a_section_that_is_null_creates_the_section() -> None:
    assert compose().model.lora is None
    lora = compose(["model.lora.rank=8", "model.lora.target_modules=[q_proj]"]).model.lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.dropout, lora.target_modules) == (8, 32, 0.0, ["q_proj"])
    assert compose(["model.lora={rank: 8}", "model.lora=null"]).model.lora is None


def test_a_configuration_without_keys_that_were_added_later_has_their_defaults_and_the_same_hash() -> None:
    config = compose()
    config = config.model_copy(update={"task": config.task.model_copy(update={"judge_version": 1})})
    frozen = config.model_dump(mode="json")
    added = {
        "method": ("version",),
        "task": ("kind", "judge_version"),
        "model": ("lora", "trust_remote_code", "stop_tokens"),
        "train": (
            "gradient_checkpointing",
            "generation",
            "rewards",
            "correctness_reward",
            "keep_checkpoints",
            "keep_completions",
            "health",
        ),
    }
    for section, names in added.items():
        for name in names:
            del frozen[section][name]
    assert validate(frozen) == config
    hashed = {section: frozen[section] for section in ("task", "model", "train")}
    hashed["method"] = config.method.model_dump(mode="json", exclude_defaults=True)
    for section, key in (("model", "name"), ("train", "save_every"), ("train", "eval_every")):
        del hashed[section][key]
    # The hash as it was computed before these keys existed.
    assert config_hash(config) == hashlib.sha256(canonical_json(hashed).encode()).hexdigest()[:12]
