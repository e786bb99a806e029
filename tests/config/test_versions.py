"""Versions that the code owns: hashed above 1, never set by anybody, and never gone on with or pooled across."""

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
"""Hashes of commit 759c9c1, which had no versions."""

GRPO = method_classes()["grpo"]


@pytest.fixture(autouse=True)
def first_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every judge as it was: the tests raise Countdown's themselves."""
    for section in KINDS.values():
        monkeypatch.setattr(section, "judge_version_of_code", 1)


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """GRPO's gradient has changed since."""
    monkeypatch.setattr(GRPO, "version_of_code", 2)


@pytest.fixture
def second_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Countdown's judge has changed since."""
    monkeypatch.setattr(CountdownConfig, "judge_version_of_code", 2)


@pytest.mark.parametrize("override", BEFORE)
def test_no_hash_has_changed(override: str) -> None:
    then = [] if override == "experiment=smollm" else ["train.steps=300", "train.prompts_per_rollout=16"]
    config = compose([override, *then])
    if config.task.name == "countdown" and config.task.prompt == "plain":
        config = compose([override, *then, "task.max_new_tokens=24"])  # as the lab had it then
    assert (config.method.version, config.task.judge_version) == (1, 1)
    assert config_hash(config) == BEFORE[override]


def test_a_raised_version_is_in_the_configuration_and_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compose(["method=grpo"])
    monkeypatch.setattr(GRPO, "version_of_code", 2)
    raised = compose(["method=grpo"])
    assert raised.method.version == 2
    assert compose(["method=progrpo"]).method.version == 1  # each has its own
    monkeypatch.setattr(CountdownConfig, "judge_version_of_code", 3)
    both = compose(["method=grpo"])
    assert both.task.judge_version == 3
    assert len({config_hash(before), config_hash(raised), config_hash(both)}) == 3
    assert {config_hash(each) for each in versions.with_earlier_versions(both)} >= {
        config_hash(before),
        config_hash(raised),
    }


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
def test_nobody_sets_a_version(override: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        compose([override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert compose(["method.version=1", "task.judge_version=1"]) == compose()


def test_no_space_varies_a_version(tmp_path: Path) -> None:
    space = {"parameters": {"method.version": [1, 2]}, "seeds": [0], "objectives": [{"metric": "pass@1"}]}
    with pytest.raises(RequestError, match=r"parameters.method.version: the code says what it is"):
        make_plan(parse_space(space, "mine"), [], tmp_path)


def begun(path: Path, *overrides: str) -> RunDirectory:
    run = RunDirectory(path)
    run.start(compose(["method=grpo", *overrides]), model="progrpo/lab-base", study=None)
    return run


@pytest.mark.usefixtures("second_version")
def test_what_an_old_run_froze_is_still_read(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    assert run.manifest()["versions"] == {"method": 2, "judge": 1}
    frozen = yaml.safe_load(run.config_path.read_text())
    assert frozen["method"]["version"] == 2
    for version in (1, 3):
        frozen["method"]["version"] = version
        assert validate(frozen).method.version == version
    del frozen["method"]["version"], frozen["task"]["judge_version"]
    assert (validate(frozen).method.version, validate(frozen).task.judge_version) == (1, 1)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ((GRPO, "version_of_code"), "method grpo"),
        ((CountdownConfig, "judge_version_of_code"), "the judge of countdown"),
    ],
)
def test_a_run_of_another_version_is_not_gone_on_with(
    code: tuple[Any, str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tmp_path / "run")
    monkeypatch.setattr(*code, 2)
    with pytest.raises(
        RequestError, match=f"run was started under version 1 of {what}.*, and this is version 2"
    ) as error:
        launch.train(["method=grpo"], experiment=None, run_dir=run.path, fresh=False)
    assert "\n" not in str(error.value)
    with run.lock(), pytest.raises(RequestError, match="started under version 1"):  # as a sweep's worker would
        launch.train_locked(run, run.config())
    assert not run.checkpoints.exists()


def test_the_default_directory_of_an_earlier_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    old = begun(Path("runs") / launch.default_run_name(compose(["method=grpo"])))
    monkeypatch.setattr(GRPO, "version_of_code", 2)
    monkeypatch.setattr(launch, "train_in", lambda *_, **__: None)
    monkeypatch.setattr(launch, "summary", lambda run: {"run_dir": str(run.path)})
    result = launch.train(["method=grpo"], experiment=None, run_dir=None, fresh=False)
    assert result is not None
    assert result["run_dir"] != str(old.path)
    (said,) = [record.message for record in caplog.records if "not gone on with" in record.message]
    assert said.startswith(f"{old.path} is not gone on with, it was begun under version 1 of method grpo (now 2)")


def test_a_study_of_another_version_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    for go_on in (
        lambda: start.sweep("mine.yaml", [], open_study.Settings(), study=None, dry_run=False),
        lambda: start.work("mine", None),
    ):
        with pytest.raises(
            RequestError, match="study runs/mine was started under version 1 of method grpo, and this is"
        ):
            go_on()


def test_every_frozen_configuration_says_its_versions(progrpo: CommandLine) -> None:
    shown = progrpo.json("train", "--dry-run")
    assert (shown["config"]["method"]["version"], shown["config"]["task"]["judge_version"]) == (1, 2)
