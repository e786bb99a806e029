"""Gradient accumulation, gradient checkpointing and LoRA: small real runs of the training code in this process."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command_line import TINY, CommandLine, kill, read_metrics, wait_for, without_times
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.llama.modeling_llama import LlamaMLP

from progrpo_cli.config.compose import compose
from progrpo_cli.config.paths import ASSETS
from progrpo_cli.errors import RequestError
from progrpo_cli.policies import policy
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.training.data import longest_prompt, rollout_prompts
from progrpo_cli.training.launch import train_in
from progrpo_cli.training.recipe import grpo_config

COMBINED = [
    "model.lora.rank=2",
    "model.lora.target_modules=[q_proj,v_proj]",
    "train.learning_rate=1e-3",
    "train.gradient_checkpointing=true",
    "train.micro_batch_size=4",
]
# Rounding decides whether a token at the edge of the clip counts.
CLIP_FRACTIONS = {"clip_fraction", "clip_fraction_low", "clip_fraction_high"}


def train(directory: Path, *overrides: str) -> list[dict]:
    """Train in the directory; returns the lines of `metrics.jsonl` without times."""
    train_in(RunDirectory(directory), compose([*TINY, "tracking.wandb.mode=disabled", *overrides]))
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return without_times(lines)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    directory = tmp_path_factory.mktemp("plain") / "run"
    return directory, train(directory)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    directory = tmp_path_factory.mktemp("lora") / "run"
    return directory, train(directory, *COMBINED)


@pytest.mark.parametrize("updates", [1, 2])
def test_gradient_accumulation_equals_one_big_batch(
    plain: tuple[Path, list[dict]], tmp_path: Path, updates: int
) -> None:
    """With one update per rollout, ARM is applied in the loss of each micro-batch."""
    on_policy = f"train.updates_per_rollout={updates}"
    whole = plain if updates == 2 else (tmp_path / "whole", train(tmp_path / "whole", on_policy))
    accumulated = train(tmp_path / "run", "train.micro_batch_size=4", on_policy)
    for small, big in zip(accumulated, whole[1], strict=True):
        assert set(small) == set(big)
        for key in big:
            exact = key not in CLIP_FRACTIONS
            tolerance = {"rel": 1e-4, "abs": 1e-6} if exact else {"abs": 0.01}
            assert small[key] == pytest.approx(big[key], **tolerance), (big["step"], key)
    weights = [load_file(run / "policy" / "model.safetensors") for run in (tmp_path / "run", whole[0])]
    for name, weight in weights[0].items():
        # Adam divides by the gradient's size: near 0, the rounding of a sum decides the step.
        assert (weight - weights[1][name]).abs().mean() < 1e-6, name


def test_gradient_checkpointing_changes_no_number(
    plain: tuple[Path, list[dict]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recomputed = 0
    forward = LlamaMLP.forward

    def counting_forward(self: LlamaMLP, *args: torch.Tensor) -> torch.Tensor:
        nonlocal recomputed
        recomputed += torch._C._current_graph_task_id() != -1  # called from within a backward pass
        return forward(self, *args)

    monkeypatch.setattr(LlamaMLP, "forward", counting_forward)
    checkpointed = train(tmp_path / "run", "train.gradient_checkpointing=true", "train.eval_every=2")
    for ours, theirs in zip(checkpointed, plain[1], strict=True):
        compared = {key: value for key, value in theirs.items() if isinstance(value, float)}
        assert {key: ours[key] for key in compared} == pytest.approx(compared, rel=1e-5, abs=1e-6)
        rest = theirs.keys() - compared.keys()
        assert {key: ours[key] for key in rest} == {key: theirs[key] for key in rest}
    assert recomputed == 4 * 4, "each of 4 updates recomputes the activations of 4 layers"


def test_lora_trains_low_rank_updates_and_saves_a_plain_policy(lora: tuple[Path, list[dict]]) -> None:
    directory, metrics = lora
    assert all(line["grad_norm"] > 0 for line in metrics)
    saved = {path.name for path in (directory / "checkpoints" / "checkpoint-2").iterdir()}
    assert "adapter_model.safetensors" in saved
    assert "model.safetensors" not in saved
    assert not [path for path in (directory / "policy").iterdir() if "adapter" in path.name or path.suffix == ".bin"]

    after = AutoModelForCausalLM.from_pretrained(directory / "policy", use_safetensors=True)
    before, _ = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    assert after.dtype == torch.float32
    assert set(after.state_dict()) == set(before.state_dict())
    for name, weight in after.state_dict().items():
        difference = weight - before.state_dict()[name]
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            assert 1 <= torch.linalg.matrix_rank(difference, rtol=1e-3) <= 2, name
        else:
            assert not difference.any(), name


def test_lora_is_drawn_from_the_seed(lora: tuple[Path, list[dict]], tmp_path: Path) -> None:
    torch.manual_seed(123)  # as after an earlier run of a worker
    assert train(tmp_path / "run", *COMBINED) == lora[1]


def test_lora_resumes_from_its_adapters(lora: tuple[Path, list[dict]], tmp_path: Path) -> None:
    stopped = tmp_path / "run"
    shutil.copytree(lora[0], stopped)
    shutil.rmtree(stopped / "policy")
    RunDirectory(stopped).update(status="interrupted")
    assert train(stopped, *COMBINED) == lora[1]  # bit for bit
    assert len(RunDirectory(stopped).manifest()["resumed_at"]) == 1
    one, other = (load_file(run / "policy" / "model.safetensors") for run in (stopped, lora[0]))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.long
def test_lora_resumed_after_a_kill_has_the_same_metrics(progrpo: CommandLine) -> None:
    command = ["train", *TINY, *COMBINED, "train.steps=8", "tracking.wandb.mode=disabled", "--run-dir"]
    straight = progrpo(*command, "straight")
    assert straight.returncode == 0, straight.stderr
    process = progrpo.start(*command, "killed")
    lines = progrpo.directory / "killed" / "metrics.jsonl"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) >= 5, process)
    kill(process)
    resumed = progrpo(*command, "killed", "--resume")
    assert "continuing killed after update 4" in resumed.stderr
    one, other = (read_metrics(progrpo.directory / run) for run in ("straight", "killed"))
    assert without_times(one) == without_times(other)  # bit for bit


@pytest.mark.parametrize("updates", [1, 2])
def test_progrpo_at_alpha_zero_is_grpo_on_these_paths_too(tmp_path: Path, updates: int) -> None:
    options = [*COMBINED, f"train.updates_per_rollout={updates}"]
    zero = train(tmp_path / "zero", "method=progrpo", "method.arm.alpha=0", *options)
    grpo = train(tmp_path / "grpo", "method=grpo", *options)
    for ours, theirs in zip(zero, grpo, strict=True):
        assert {key: ours[key] for key in theirs} == theirs  # bit for bit
    one, other = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("zero", "grpo"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_colocated_vllm_is_ready_for_the_longest_prompt_and_its_answer(tmp_path: Path) -> None:
    config = compose(["train.generation.backend=vllm", "task.rl_problems=50"])
    problems = make_task(config.task).problems("rl")
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "lab-base")
    longest = longest_prompt(rollout_prompts(config, problems, chat=False), tokenizer, chat=False)
    assert longest == max(len(tokenizer(problem.prompt).input_ids) for problem in problems)
    assert (
        grpo_config(config, tmp_path, "cpu", longest_prompt=longest).vllm_max_model_length
        == longest + config.task.max_new_tokens
    )
    tokenizer.chat_template = "{{ messages[0].content }}{% if add_generation_prompt %}=={% endif %}"
    in_chat = rollout_prompts(compose(["task.rl_problems=50"]), problems, chat=True)
    assert (
        longest_prompt(in_chat, tokenizer, chat=True) == longest - 1 + 2
    )  # no beginning-of-sequence, two of the template


def test_an_unknown_layer_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no layer is called 'q_prj'; did you mean 'q_proj'\?"):
        train(tmp_path / "run", "model.lora.rank=2", "model.lora.target_modules=[q_prj]")
    assert not (tmp_path / "run").exists()
