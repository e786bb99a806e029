"""Training through the real command line, with TRL, transformers and W&B."""

import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from command_line import TIMES, TINY, CommandLine, kill, read_metrics, wait_for

from progrpo_cli.config.compose import compose, validate
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.tracking.wandb_offline import read_wandb_dir

METRICS = {
    "step",
    "reward",
    "entropy",
    "completion_length",
    "clip_fraction",
    "grad_norm",
    "step_seconds",
    "pass@1",
    "pass@4",
}
ARM_METRICS = {
    "arm/prompt_confidence",
    "arm/answer_confidence",
    "arm/answer_confidence_correct",
    "arm/shift_mean",
    "arm/shift_std",
    "arm/gated_fraction",
    "arm/sign_flips",
}


def assert_same_metrics(one: list[dict], other: list[dict], *, rel: float = 0.0) -> None:
    assert [record["step"] for record in one] == [record["step"] for record in other]
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b)
        for key in set(a) - TIMES:
            tolerance = max(1e-5, rel * abs(b[key] or 0.0))
            assert a[key] == pytest.approx(b[key], abs=tolerance), (a["step"], key)


@pytest.mark.parametrize("method", ["grpo", "progrpo"])
def test_a_run_directory_has_every_file_of_the_contract(
    trained: tuple[CommandLine, dict[str, Path]], method: str
) -> None:
    run = trained[1][method]
    config = validate(yaml.safe_load((run / "config.yaml").read_text()))
    assert config == compose([f"method={method}", *TINY])
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["config_hash"] == config_hash(config)
    assert (manifest["status"], manifest["seed"], manifest["device"]) == ("finished", 0, "cpu")
    assert manifest["command"].startswith(f"progrpo train method={method}")
    assert {"torch", "trl", "transformers", "wandb"} <= set(manifest["packages"])
    assert manifest["started_at"] <= manifest["finished_at"]
    assert {"commit", "dirty"} == set(manifest["git"])
    assert manifest["host"]["name"]
    assert f"progrpo_cli.methods.{method}" in manifest["sources"]["method"]["modules"]
    assert "progrpo_cli.tasks.countdown.task" in manifest["sources"]["judge"]["modules"]
    assert manifest["budget"]["updates"] == 4
    assert manifest["budget"]["samples_drawn"] == 2 * 4 * 4  # two rollouts of 4 x 4

    metrics = read_metrics(run)
    assert [record["step"] for record in metrics] == [1, 2, 3, 4]
    for record in metrics:
        assert set(record) >= METRICS
        assert (set(record) >= ARM_METRICS) is (method == "progrpo")
        assert all(value is None or math.isfinite(value) for value in record.values())
        assert 0 < record["entropy"] < math.log(21)
        assert record["reward"] == pytest.approx(record["pass@1"])
        assert record["pass@4"] >= record["pass@1"]
    # There are two updates per rollout; the second is off-policy on the same rollout.
    assert metrics[0]["reward"] == metrics[1]["reward"]
    assert (run / "checkpoints" / "checkpoint-2" / "optimizer.pt").is_file()


def test_the_policy_loads_and_is_not_the_base(trained: tuple[CommandLine, dict[str, Path]]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from progrpo_cli.policies import policy

    base, _ = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    for run in trained[1].values():
        assert not list((run / "policy").glob("*.bin"))
        model = AutoModelForCausalLM.from_pretrained(run / "policy", use_safetensors=True)
        assert AutoTokenizer.from_pretrained(run / "policy").decode([3, 4]) == "01"
        pairs = zip(model.state_dict().values(), base.state_dict().values(), strict=True)
        assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)


def test_wandb_has_the_same_names_and_values(trained: tuple[CommandLine, dict[str, Path]]) -> None:
    for method, run in trained[1].items():
        (tracked,) = read_wandb_dir(run / "wandb")
        assert tracked.id == json.loads((run / "manifest.json").read_text())["wandb_run_id"]
        assert tracked.config["method"]["name"] == method
        assert tracked.damaged_records == 0
        for logged, line in zip(tracked.history, read_metrics(run), strict=True):
            for key, value in line.items():
                if value is not None:
                    assert logged[key] == pytest.approx(value), key


def test_progrpo_at_alpha_zero_is_exactly_grpo(
    progrpo: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    result = progrpo.json("train", "method=progrpo", "method.arm.alpha=0", *TINY)
    zero, grpo = read_metrics(progrpo.directory / result["run_dir"]), read_metrics(trained[1]["grpo"])
    for ours, theirs in zip(zero, grpo, strict=True):
        for key in set(theirs) - TIMES:
            assert ours[key] == theirs[key], key  # bit for bit: no tolerance
        assert ours["arm/shift_mean"] in (0.0, None)


def test_arm_changes_the_advantages(trained: tuple[CommandLine, dict[str, Path]]) -> None:
    grpo, progrpo_ = (read_metrics(trained[1][method]) for method in ("grpo", "progrpo"))
    assert grpo[0]["reward"] == progrpo_[0]["reward"]  # the same seed samples the same first rollout
    gated = [record for record in progrpo_ if record["arm/gated_fraction"]]
    assert gated, "no group of the tiny run has a right sample; ARM was not exercised"
    assert any(a["loss"] != b["loss"] for a, b in zip(grpo, progrpo_, strict=True))
    assert all(0.2 < record["arm/prompt_confidence"] < 0.6 for record in progrpo_)


def test_a_killed_run_resumes_to_the_same_metrics(progrpo: CommandLine) -> None:
    command = ["train", *TINY, "train.steps=12", "--run-dir"]
    straight = progrpo(*command, "straight")
    assert straight.returncode == 0, straight.stderr
    process = progrpo.start(*command, "killed")
    lines = progrpo.directory / "killed" / "metrics.jsonl"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) >= 5, process)
    kill(process)
    # The same command with --resume.
    resumed = progrpo(*command, "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "continuing" in resumed.stderr
    one, other = (read_metrics(progrpo.directory / name) for name in ("straight", "killed"))
    assert_same_metrics(one, other)
    manifest = json.loads((progrpo.directory / "killed" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert len(manifest["resumed_at"]) == 1
    (tracked,) = read_wandb_dir(progrpo.directory / "killed" / "wandb")  # one run, its two fragments merged
    assert [row["step"] for row in tracked.history] == list(range(1, 13))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_a_rollout_boundary_and_exits_130(progrpo: CommandLine, number: signal.Signals) -> None:
    command = ["train", *TINY, "train.steps=400", "train.save_every=400", "--run-dir", "run"]
    process = progrpo.start(*command)
    lines = progrpo.directory / "run" / "metrics.jsonl"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) >= 3, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    manifest = json.loads((progrpo.directory / "run" / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"
    stopped_at = read_metrics(progrpo.directory / "run")[-1]["step"]
    assert stopped_at % 2 == 0  # two updates per rollout
    assert (progrpo.directory / "run" / "checkpoints" / f"checkpoint-{stopped_at}").is_dir()


def test_a_finished_run_is_left_unchanged_and_fresh_sets_it_aside(
    progrpo: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    shutil.copytree(trained[1]["progrpo"], progrpo.directory / "run")
    before = (progrpo.directory / "run" / "metrics.jsonl").read_text()
    again = progrpo("train", *TINY, "--run-dir", "run")
    assert again.returncode == 0
    assert "finished already" in again.stderr
    assert (progrpo.directory / "run" / "metrics.jsonl").read_text() == before
    fresh = progrpo("train", *TINY, "--run-dir", "run", "--fresh")
    assert fresh.returncode == 0
    (aside,) = (progrpo.directory / ".replaced").iterdir()
    assert (aside / "metrics.jsonl").read_text() == before
    assert_same_metrics(read_metrics(aside), read_metrics(progrpo.directory / "run"))


def test_held_out_pass_at_k_while_training_changes_nothing_else(
    progrpo: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    result = progrpo.json("train", "method=progrpo", *TINY, "train.eval_every=2")
    metrics = read_metrics(progrpo.directory / result["run_dir"])
    assert ["validation/pass@1" in record for record in metrics] == [False, True, False, True]
    assert all(0 <= metrics[1][f"validation/pass@{k}"] <= 1 for k in (1, 4))
    for record in metrics:
        record.pop("validation/pass@1", None)
        record.pop("validation/pass@4", None)
    assert_same_metrics(metrics, read_metrics(trained[1]["progrpo"]))


def test_an_on_policy_update_needs_no_old_log_probabilities(progrpo: CommandLine) -> None:
    """With one update per rollout TRL does not score the rollout, and ARM uses the loss's forward pass."""
    result = progrpo.json("train", *TINY, "train.steps=2", "train.updates_per_rollout=1", "train.micro_batch_size=8")
    for record in read_metrics(progrpo.directory / result["run_dir"]):
        assert record["clip_fraction"] == 0
        assert 0 < record["arm/answer_confidence"] < 1
