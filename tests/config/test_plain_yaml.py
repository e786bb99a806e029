"""YAML files and overrides are data: nothing is instantiated or read from the environment."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from command_line import CommandLine

from progrpo_cli.config import paths, plain_yaml
from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.studies.plan import load_plan
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import load_space

BAD = {
    "a target": ({"model": {"_target_": "os.system", "command": "touch executed"}}, "model._target_"),
    "a target in a list": ({"tags": [{"_target_": "os.system"}]}, r"tags\[0\]._target_"),
    "the environment": ({"model": {"path": "${oc.env:HOME}"}}, "model.path: interpolations"),
    "another key": ({"seed": "${train.steps}"}, "seed: interpolations"),
    "an environment in a key": ({"${oc.env:HOME}": 1}, "interpolations"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_file_with_more_than_data_is_refused(content: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "user.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RequestError, match=message) as caught:
        plain_yaml.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['touch executed']", "a: [", "a: !env HOME"])
def test_tags_and_broken_yaml_are_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("user.yaml").write_text(text)
    with pytest.raises(RequestError, match="is not plain YAML") as caught:
        plain_yaml.read(Path("user.yaml"))
    assert "\n" not in str(caught.value)
    assert os.listdir() == ["user.yaml"]


def test_anchors_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40))]
    (tmp_path / "user.yaml").write_text("\n".join(lines))
    with pytest.raises(RequestError, match="its aliases expand to more than the file holds"):
        plain_yaml.read(tmp_path / "user.yaml")


@pytest.mark.parametrize(
    "override",
    [
        "model.path=${oc.env:HOME}",
        "model.path='${oc.env:HOME}'",
        r"model.path=\${oc.env:HOME}",
        "model.path='$''{oc.env:HOME}'",
        "tracking.wandb.tags=[a,'${oc.env:HOME}']",
        "model.lora={rank: 8, target_modules: ['${oc.env:HOME}']}",
        "model.lora={_target_: os.getcwd}",
        "model._target_=os.getcwd",
        "+_target_=os.getcwd",
        "hydra.searchpath=[/tmp]",
        "hydra.job.env_set.X=1",
    ],
)
def test_an_override_cannot_read_the_environment_or_create_an_object(override: str) -> None:
    with pytest.raises(RequestError) as caught:
        compose([override])
    assert "\n" not in str(caught.value)
    assert os.environ["HOME"] not in str(caught.value)


def test_text_that_looks_like_an_interpolation_is_not_changed() -> None:
    assert compose([r"model.path='$\{oc.env:HOME}'"]).model.path == r"$\{oc.env:HOME}"


def test_the_configuration_of_a_run_directory_and_a_frozen_plan_are_data(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(compose(), model="progrpo/lab-base", study=None)
    run.config_path.write_text(run.config_path.read_text().replace("progrpo/lab-base", "${oc.env:HOME}"))
    with pytest.raises(RequestError, match=r"config.yaml: model.path: interpolations"):
        run.config()
    plan = make_plan(load_space("arm_alpha"), [], tmp_path / "study")
    plan.freeze()
    study = tmp_path / "study" / "study.yaml"
    study.write_text(study.read_text().replace("progrpo/lab-base", "${oc.env:HOME}"))
    with pytest.raises(RequestError, match="interpolations"):
        load_plan(tmp_path / "study")


def test_a_space_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(paths.SWEEPS, tmp_path / "sweeps")
    monkeypatch.setattr(paths, "SWEEPS", tmp_path / "sweeps")
    path = tmp_path / "sweeps" / "arm_alpha.yaml"
    shipped = path.read_text()
    path.write_text(shipped.replace("[method=progrpo]", "['model.path=${oc.env:HOME}']"))
    with pytest.raises(RequestError, match=r"overrides\[0\]: interpolations"):
        load_space("arm_alpha")
    path.write_text(shipped.replace("{metric: pass@32", "{_target_: os.getcwd, metric: pass@32"))
    with pytest.raises(RequestError, match="_target_"):
        load_space("arm_alpha")


def test_a_run_directory_with_more_than_data_is_refused_in_one_line(progrpo: CommandLine) -> None:
    run = RunDirectory(progrpo.directory / "sent")
    run.start(compose(), model="progrpo/lab-base", study=None)
    run.config_path.write_text(run.config_path.read_text() + "extra: {_target_: os.system, command: touch executed}\n")
    done = progrpo("train", "--run-dir", "sent")
    assert done.returncode == 2
    assert "extra._target_" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (progrpo.directory / "executed").exists()
