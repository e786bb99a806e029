"""Versions of methods and judges: only the code sets them, and runs of different versions are never mixed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import CommandLine

from progrpo_cli.config import versions
from progrpo_cli.config.compose import compose, validate
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.errors import RequestError
from progrpo_cli.methods.registry import method_classes
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies import open as open_study
from progrpo_cli.studies import start
from progrpo_cli.studies.plan import load_plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import parse_space
from progrpo_cli.tasks.config import KINDS, CountdownConfig
from progrpo_cli.training import launch

BEFORE = {
    "experiment=lab": "90767e99ba4e",
    "experiment=smollm": "266983d19f0d",
    "method=dapo": "ad25c25daf2c",
    "method=dr_grpo": "675e10a26f93",
    "method=entropy_bonus": "dee5cb3099ef",
    "method=flowrl": "fc71091c8c04",
    "method=grpo": "e6eb57a822b3",
    "method=grpo_classic": "e2dc9ef96c1e",
    "method=gspo": "ba990d132195",
    "method=kl_cov": "105ff4127c61",
    "method=passk": "8a0d519a7cf7",
    "method=w_reinforce": "54294ff17cc0",
    "task=countdown_chat": "a50132499a28",
    "task=humaneval": "b7bac531306d",
    "task=livecodebench": "3359a2fec342",
    "task=math500": "09760cc7cbc7",
    "task=mmlu_pro": "70073ffb6325",
    "task=own": "d3e1b5d2dca4",
    "task=reasoning_gym": "c6a7e7d10f6d",
    "model=qwen2.5-0.5b-instruct": "402a0dfcf34d",
    "model=smollm2-135m": "2c28dfe6b8db",
}
"""Hashes at commit 759c9c1, before there were versions."""

GRPO = method_classes()["grpo"]


@pytest.fixture(autouse=True)
def first_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the version of every judge to 1; the tests increase Countdown's themselves."""
    for section in KINDS.values():
        monkeypatch.setattr(section, "judge_version_of_code", 1)


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """GRPO has a second version."""
    monkeypatch.setattr(GRPO, "version_of_code", 2)


@pytest.fixture
def second_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Countdown's judge has a second version."""
    monkeypatch.setattr(CountdownConfig, "judge_version_of_code", 2)


@pytest.mark.parametrize("override", BEFORE)
def test_no_hash_has_changed(override: str) -> None:
    old_defaults = [] if override == "experiment=smollm" else ["train.steps=300", "train.prompts_per_rollout=16"]
    config = compose([override, *old_defaults])
    if config.task.name == "countdown" and config.task.prompt == "plain":
        config = compose([override, *old_defaults, "task.max_new_tokens=24"])
    assert (config.method.version, config.task.judge_version) == (1, 1)
    assert config_hash(config) == BEFORE[override]


def test_an_increased_version_is_in_the_configuration_and_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compose(["method=grpo"])
    monkeypatch.setattr(GRPO, "version_of_code", 2)
    increased = compose(["method=grpo"])
    assert increased.method.version == 2
    assert compose(["method=progrpo"]).method.version == 1  # the version of another method
    monkeypatch.setattr(CountdownConfig, "judge_version_of_code", 3)
    both = compose(["method=grpo"])
    assert both.task.judge_version == 3
    assert len({config_hash(before), config_hash(increased), config_hash(both)}) == 3
    earlier_hashes = {config_hash(config) for config in versions.with_earlier_versions(both)}
    assert earlier_hashes >= {config_hash(before), config_hash(increased)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.judge_version=7", "task.judge_version=7: the judge of countdown tasks has version 1 here"),
        ("method.version=2", "method.version=2: method progrpo has version 1 here"),
        ("+method.version=2", "method.version=2: method progrpo has version 1 here"),
        ("method.version=0", "greater than or equal to 1"),
        ("method.version=x", "integer"),
    ],
)
def test_an_override_cannot_set_a_version(override: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        compose([override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert compose(["method.version=1", "task.judge_version=1"]) == compose()


def test_a_space_cannot_vary_a_version(tmp_path: Path) -> None:
    space = {"parameters": {"method.version": [1, 2]}, "seeds": [0], "objectives": [{"metric": "pass@1"}]}
    with pytest.raises(RequestError, match=r"parameters.method.version: only the code sets it"):
        make_plan(parse_space(space, "mine"), [], tmp_path)


def start_run(path: Path, *overrides: str) -> RunDirectory:
    run = RunDirectory(path)
    run.start(compose(["method=grpo", *overrides]), model="progrpo/lab-base", study=None)
    return run


@pytest.mark.usefixtures("second_version")
def test_configurations_of_other_versions_are_read(tmp_path: Path) -> None:
    run = start_run(tmp_path / "run")
    assert run.manifest()["versions"] == {"method": 2, "judge": 1}
    frozen = yaml.safe_load(run.config_path.read_text())
    assert frozen["method"]["version"] == 2
    for version in (1, 3):
        frozen["method"]["version"] = version
        assert validate(frozen).method.version == version
    del frozen["method"]["version"], frozen["task"]["judge_version"]
    assert (validate(frozen).method.version, validate(frozen).task.judge_version) == (1, 1)


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ((GRPO, "version_of_code"), "method grpo"),
        ((CountdownConfig, "judge_version_of_code"), "the judge of countdown"),
    ],
)
def test_a_run_of_another_version_is_not_continued(
    attribute: tuple[Any, str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(tmp_path / "run")
    monkeypatch.setattr(*attribute, 2)
    with pytest.raises(
        RequestError, match=f"run was started under version 1 of {name}.*, and this is version 2"
    ) as error:
        launch.train(["method=grpo"], experiment=None, run_dir=run.path, fresh=False)
    assert "\n" not in str(error.value)
    with run.lock(), pytest.raises(RequestError, match="started under version 1"):  # as in a sweep's worker
        launch.train_locked(run, run.config())
    assert not run.checkpoints.exists()


def test_the_default_directory_of_an_earlier_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    old = start_run(Path("runs") / launch.default_run_name(compose(["method=grpo"])))
    monkeypatch.setattr(GRPO, "version_of_code", 2)
    monkeypatch.setattr(launch, "train_in", lambda *_, **__: None)
    monkeypatch.setattr(launch, "summary", lambda run: {"run_dir": str(run.path)})
    result = launch.train(["method=grpo"], experiment=None, run_dir=None, fresh=False)
    assert result is not None
    assert result["run_dir"] != str(old.path)
    (said,) = [record.message for record in caplog.records if "is not continued" in record.message]
    assert said.startswith(f"{old.path} is not continued because it was started with version 1 of method grpo (now 2)")


def test_a_study_of_another_version_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = {
        "overrides": ["method=grpo"],
        "parameters": {"train.steps": [2, 4]},
        "seeds": [0],
        "objectives": [{"metric": "pass@1"}],
    }
    Path("mine.yaml").write_text(yaml.safe_dump(space))
    plan = make_plan(parse_space(space, "mine"), [], Path("runs/mine"))
    plan.directory.mkdir(parents=True)
    plan.freeze()
    monkeypatch.setattr(GRPO, "version_of_code", 2)
    assert load_plan(plan.directory).grid[0].config.method.version == 1
    for continue_study in (
        lambda: start.sweep("mine.yaml", [], open_study.Settings(), study=None, dry_run=False),
        lambda: start.work("mine", None),
    ):
        with pytest.raises(
            RequestError, match="study runs/mine was started under version 1 of method grpo, and this is"
        ):
            continue_study()


def test_every_frozen_configuration_has_its_versions(progrpo: CommandLine) -> None:
    config = progrpo.json("train", "--dry-run")["config"]
    assert (config["method"]["version"], config["task"]["judge_version"]) == (1, 2)
