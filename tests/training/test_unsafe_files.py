"""Files from an untrusted source: a pickle or a Python file in them is never executed, and the refusal is one line."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from command_line import TINY

from progrpo_cli.config.compose import compose
from progrpo_cli.config.schema import Config
from progrpo_cli.errors import RequestError
from progrpo_cli.evaluation.request import Request
from progrpo_cli.evaluation.targets import evaluate_target, resolve_targets
from progrpo_cli.policies import policy
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.training.checkpoints import FILES
from progrpo_cli.training.launch import train_in

LAB_BASE = Path(policy.resolve("progrpo/lab-base").location)


class Malicious:
    """Unpickling it creates the directory ``executed``."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self):
        return os.mkdir, (str(self.where / "executed"),)


def config() -> Config:
    return compose([*TINY, "train.steps=4", "tracking.wandb.mode=disabled", "device=cpu"])


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint at its second update, which the same command would continue."""
    run = RunDirectory(tmp_path_factory.mktemp("sent") / "run")
    train_in(run, config())
    shutil.rmtree(run.policy)
    run.update(status="running", finished_at=None)
    assert not list(run.path.rglob("training_args.bin"))
    return run.path


@pytest.fixture
def sent(interrupted: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(interrupted, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def assert_refused(run: RunDirectory, message: str) -> None:
    before = run.manifest()
    metrics = run.metrics_path.read_bytes()
    with pytest.raises(RequestError, match=message) as caught:
        train_in(run, config())
    assert "\n" not in str(caught.value)
    assert not (run.path / "executed").exists()
    assert (run.manifest(), run.metrics_path.read_bytes()) == (before, metrics)


def test_the_malicious_object_is_executed_by_an_unsafe_load(tmp_path: Path) -> None:
    torch.save({"state": Malicious(tmp_path)}, tmp_path / "file.pt")
    torch.load(tmp_path / "file.pt", weights_only=False)
    assert (tmp_path / "executed").is_dir()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("serializer", ["torch", "pickle"])
def test_a_malicious_state_in_a_checkpoint(sent: RunDirectory, name: str, serializer: str) -> None:
    path = sent.checkpoints / "checkpoint-2" / name
    if serializer == "torch":
        torch.save({"state": Malicious(sent.path), "param_groups": []}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(sent.path)))
    _write_sizes(path.parent)
    assert_refused(sent, f"{name} holds something other")


@pytest.mark.parametrize("name", ["training_args.bin", "pytorch_model.bin", "state.pkl", "adapter_model.bin"])
def test_a_pickle_that_we_do_not_write_in_a_checkpoint(sent: RunDirectory, name: str) -> None:
    checkpoint = sent.checkpoints / "checkpoint-2"
    torch.save(Malicious(sent.path), checkpoint / name)
    assert_refused(sent, f"{name} is a pickle that progrpo does not write")


def test_pickled_weights_instead_of_safetensors_in_a_checkpoint(sent: RunDirectory) -> None:
    checkpoint = sent.checkpoints / "checkpoint-2"
    (checkpoint / "model.safetensors").unlink()
    torch.save(Malicious(sent.path), checkpoint / "pytorch_model.bin")
    _write_sizes(checkpoint)
    assert_refused(sent, "no weights in safetensors")


def test_our_own_checkpoint_is_accepted(sent: RunDirectory) -> None:
    train_in(sent, config())
    assert sent.finished
    assert len(sent.manifest()["resumed_at"]) == 1


def test_pickled_weights_in_a_model_directory(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(LAB_BASE, model)
    (model / "model.safetensors").unlink()
    torch.save(Malicious(tmp_path), model / "pytorch_model.bin")
    torch.save(Malicious(tmp_path), model / "training_args.bin")
    with pytest.raises(RequestError, match="cannot load") as caught:
        policy.load(policy.resolve(str(model)), "float32", "cpu", chat=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_pickles_beside_safetensors_in_a_model_directory_are_not_read(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(LAB_BASE, model)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        torch.save(Malicious(tmp_path), model / name)
    policy.load(policy.resolve(str(model)), "float32", "cpu", chat=False)
    assert not (tmp_path / "executed").exists()


def test_a_pickled_adapter_in_a_model_directory(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(LAB_BASE, model)
    (model / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(model)}))
    torch.save(Malicious(tmp_path), model / "adapter_model.bin")
    with pytest.raises(RequestError, match="adapter has no weights in safetensors"):
        policy.load(policy.resolve(str(model)), "float32", "cpu", chat=False)
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def with_code(tmp_path: Path) -> Path:
    """A model whose configuration names a Python file that comes with it."""
    model = tmp_path / "model"
    shutil.copytree(LAB_BASE, model)
    described = json.loads((model / "config.json").read_text())
    described["model_type"] = "own"
    described["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (model / "config.json").write_text(json.dumps(described))
    (model / "own.py").write_text(
        "import os\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        f"os.makedirs({str(tmp_path / 'executed')!r}, exist_ok=True)\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    return model


def test_code_that_comes_with_a_model_runs_only_if_asked_for(
    with_code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    source = policy.resolve(str(with_code))
    with pytest.raises(RequestError, match=r"only with model.trust_remote_code=true") as caught:
        policy.load(source, "float32", "cpu", chat=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
    model, _ = policy.load(source, "float32", "cpu", chat=False, trust_remote_code=True)
    assert type(model).__name__ == "OwnForCausalLM"
    assert (tmp_path / "executed").is_dir()


def test_a_runs_own_configuration_cannot_allow_remote_code(with_code: Path, tmp_path: Path, sent: RunDirectory) -> None:
    """The author of the run directory trusted the code, but the user who evaluates it did not."""
    shutil.copytree(with_code, sent.policy)
    sent.config_path.write_text(
        sent.config_path.read_text().replace("trust_remote_code: false", "trust_remote_code: true")
    )
    assert sent.config().model.trust_remote_code
    sent.update(status="finished")
    with pytest.raises(RequestError, match="trust_remote_code"):
        evaluate_target(resolve_targets(str(sent.path))[0], Request(ks=[1], limit=1))
    assert not (tmp_path / "executed").exists()


def test_the_default_is_off_and_keeps_the_hash() -> None:
    from progrpo_cli.config.hashing import config_hash

    assert not compose().model.trust_remote_code
    assert config_hash(compose(["model.trust_remote_code=false"])) == config_hash(compose())
    assert config_hash(compose(["model.trust_remote_code=true"])) != config_hash(compose())


def _write_sizes(checkpoint: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in checkpoint.iterdir() if path.name != FILES}
    (checkpoint / FILES).write_text(json.dumps(sizes))
