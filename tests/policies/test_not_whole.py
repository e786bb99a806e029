"""Models that are not whole, or whose files are programs: one line, before anything is sampled."""

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


def changed(weights: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
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


def loaded(model: Path, *, chat: bool = False) -> object:
    return policy.load(policy.Source("the model", str(model)), "float32", "cpu", chat=chat)


@pytest.mark.parametrize("kind", ["missing", "another shape", "another model", "whole"])
def test_weights_that_are_not_all_there(model: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    weights = load_file(model / "model.safetensors")
    assert NAME in weights
    save_file(changed(weights, kind), model / "model.safetensors", metadata={"format": "pt"})
    if kind == "whole":
        loaded(model)
        return
    with pytest.raises(RequestError, match=kind) as refused:
        loaded(model)
    assert "not whole" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_head_that_is_the_embedding_is_not_missing(model: Path) -> None:
    from transformers import AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained(model)
    read.config.tie_word_embeddings = True
    read.tie_weights()
    read.save_pretrained(model)
    assert "lm_head.weight" not in load_file(model / "model.safetensors")
    loaded(model)


BREAKS = {
    "half of the weights": lambda model: (model / "model.safetensors").write_bytes(
        (model / "model.safetensors").read_bytes()[:1000]
    ),
    "no numbers": lambda model: edit(model, hidden_size="many"),
    "zero heads": lambda model: edit(model, num_attention_heads=0),
    "a list": lambda model: (model / "config.json").write_text("[1]"),
    "deep": lambda model: (model / "config.json").write_text("[" * 100_000),
    "a tokenizer of nothing": lambda model: (model / "tokenizer.json").write_text("{}"),
}


def edit(model: Path, **values: object) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **values}))


@pytest.mark.parametrize("kind", BREAKS)
def test_whatever_is_raised_is_one_line(model: Path, kind: str) -> None:
    BREAKS[kind](model)
    with pytest.raises(RequestError, match="cannot load the model"):
        loaded(model)


def test_ten_million_layers_are_not_made(model: Path) -> None:
    edit(model, num_hidden_layers=10**7)
    with pytest.raises(RequestError, match="num_hidden_layers=10000000, above"):
        loaded(model)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not end"),
        ("{{ 'a' * 10**11 }}", "does not end"),
        ("{{ messages[0].content.nothing.more }}", "cannot load"),
        ("{% for %}", "cannot load"),
        ("{{ raise_exception('no') }}", "cannot load"),
    ],
)
def test_a_template_that_does_not_end_or_fails(
    model: Path, template: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "_TEMPLATE_SECONDS", 3.0)
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    with pytest.raises(RequestError, match=said):
        policy.load_tokenizer(policy.Source("the model", str(model)), chat=True)
