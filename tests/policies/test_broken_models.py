"""Models with missing or broken files, or with hostile ones, are refused in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from progrpo_cli.config import paths
from progrpo_cli.errors import RequestError
from progrpo_cli.policies import policy

NAME = "model.layers.0.self_attn.q_proj.weight"
LAB = paths.ASSETS / "lab-base"


def change(weights: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    if kind == "missing":
        return {name: tensor for name, tensor in weights.items() if name != NAME}
    if kind == "another shape":
        return {**weights, NAME: weights[NAME][:5].contiguous()}
    if kind == "another model":
        return {**weights, "score.weight": torch.zeros(2)}
    return weights


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LAB, tmp_path / "model"))


def load(model: Path, *, chat: bool = False) -> object:
    return policy.load(policy.Source("the model", str(model)), "float32", "cpu", chat=chat)


@pytest.mark.parametrize("kind", ["missing", "another shape", "another model", "complete"])
def test_incomplete_weights_are_refused(model: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    weights = load_file(model / "model.safetensors")
    assert NAME in weights
    save_file(change(weights, kind), model / "model.safetensors", metadata={"format": "pt"})
    if kind == "complete":
        load(model)
        return
    with pytest.raises(RequestError, match=kind) as error:
        load(model)
    assert "its weights are incomplete or do not fit" in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_head_that_is_tied_to_the_embedding_is_not_missing(model: Path) -> None:
    from transformers import AutoModelForCausalLM

    tied = AutoModelForCausalLM.from_pretrained(model)
    tied.config.tie_word_embeddings = True
    tied.tie_weights()
    tied.save_pretrained(model)
    assert "lm_head.weight" not in load_file(model / "model.safetensors")
    load(model)


BREAK = {
    "half of the weights": lambda model: (model / "model.safetensors").write_bytes(
        (model / "model.safetensors").read_bytes()[:1000]
    ),
    "not a number": lambda model: edit(model, hidden_size="many"),
    "zero heads": lambda model: edit(model, num_attention_heads=0),
    "a list": lambda model: (model / "config.json").write_text("[1]"),
    "deep": lambda model: (model / "config.json").write_text("[" * 100_000),
    "an empty tokenizer": lambda model: (model / "tokenizer.json").write_text("{}"),
}


def edit(model: Path, **values: object) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize("kind", BREAK)
def test_broken_files_are_refused(model: Path, kind: str) -> None:
    BREAK[kind](model)
    with pytest.raises(RequestError, match="cannot load the model"):
        load(model)


def test_ten_million_layers_are_refused(model: Path) -> None:
    edit(model, num_hidden_layers=10**7)
    with pytest.raises(RequestError, match="num_hidden_layers=10000000, above"):
        load(model)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not end"),
        ("{{ 'a' * 10**11 }}", "does not end"),
        ("{{ messages[0].content.nothing.more }}", "cannot load"),
        ("{% for %}", "cannot load"),
        ("{{ raise_exception('no') }}", "cannot load"),
    ],
)
def test_a_template_that_does_not_end_or_fails(
    model: Path, template: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "_TEMPLATE_SECONDS", 3.0)
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    with pytest.raises(RequestError, match=message):
        policy.load_tokenizer(policy.Source("the model", str(model)), chat=True)
