"""`progrpo train` as two processes under `accelerate launch` (gloo, CPU), on recorded rollouts.

The first run has one process and records its rollouts; the second has two processes and replays them. With three groups
of four over two processes, the second group is split.
"""

import json
import signal
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, stdev

import arm_reference as arm
import pandas as pd
import psutil
import pytest
import safetensors.torch
import torch
from command_line import CommandLine, read_metrics, wait_for
from replay import is_right
from test_train_cli import assert_same_metrics

from progrpo_cli.policies import policy

PROGRAM = str(Path(__file__).parent / "progrpo_recorded.py")
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")
SIZE, GROUPS, UPDATES, ALPHA, CLIP = 4, 3, 4, 0.7, (1 - 0.2, 1 + 0.28)
RUN = [
    f"train.steps={UPDATES}",
    f"train.prompts_per_rollout={GROUPS}",
    f"train.group_size={SIZE}",
    "train.micro_batch_size=3",
    "train.save_every=2",
    "train.eval_every=2",
    "task.validation_problems=4",
    f"method.arm.alpha={ALPHA}",
    "tracking.completions=true",
]


def launch_two(directory: Path, *program: str) -> CommandLine:
    return CommandLine(directory, *LAUNCH, *program)


@dataclass
class Trained:
    """A finished run, with the dumps of its processes."""

    run: Path
    printed: dict
    seconds: float
    updates: list[list[dict]]
    """Dumped weights and micro-batches by process and update."""

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return safetensors.torch.load_file(self.run / "policy" / "model.safetensors")

    def table(self, update: int) -> pd.DataFrame:
        return pd.read_parquet(self.run / "checkpoints" / "completions" / f"completions_{update:05d}.parquet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Trained]:
    """A run of one process, and a run of two on the same rollouts."""
    directory = tmp_path_factory.mktemp("processes")
    runs = []
    for world, command in {1: CommandLine(directory, PROGRAM), 2: launch_two(directory, PROGRAM)}.items():
        dump = directory / f"dump-{world}"
        dump.mkdir()
        began = time.monotonic()
        printed = command.json("train", *RUN, "--run-dir", f"run-{world}", ROLLOUTS="rollouts.jsonl", DUMP=str(dump))
        updates = [torch.load(dump / f"{rank}.pt") for rank in range(world)]
        runs.append(Trained(directory / f"run-{world}", printed, time.monotonic() - began, updates))
    return runs[0], runs[1]


def test_two_processes_have_the_advantages_metrics_and_weights_of_one(trained: tuple[Trained, Trained]) -> None:
    one, two = trained
    for update in range(1, UPDATES + 1):
        ours, theirs = (run.table(update) for run in trained)
        assert len(ours) == GROUPS * SIZE
        assert ours["completion"].tolist() == theirs["completion"].tolist()
        for column in ("advantage", "c(q)", "c(o|q)", "A", "A~"):
            assert ours[column].tolist() == pytest.approx(theirs[column].tolist(), abs=1e-5), column
        in_the_loss = [
            torch.cat(
                [batch["advantages"] for process in run.updates for batch in process[update - 1]["micro_batches"]]
            )
            for run in trained
        ]
        assert in_the_loss[0].sort().values.tolist() == pytest.approx(in_the_loss[1].sort().values.tolist(), abs=1e-5)
    split_group = two.table(1)["A~"][SIZE : 2 * SIZE]
    assert split_group.nunique() > 1, "the group that is on both processes must have a signal"
    # Sums are in another order: values above 1 differ by more than 1e-5 in single precision on some processors.
    assert_same_metrics(read_metrics(one.run), read_metrics(two.run), rel=1e-5)
    base, _ = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    moved = max(
        (one.weights[name] - value).abs().max().item()
        for name, value in base.state_dict().items()
        if name in one.weights
    )
    difference = max((one.weights[name] - value).abs().max().item() for name, value in two.weights.items())
    assert difference < 1e-5 < 5e-4 < moved


def test_only_the_main_process_writes_and_prints(trained: tuple[Trained, Trained]) -> None:
    two = trained[1]
    assert two.printed["last"]["step"] == UPDATES  # one JSON document on stdout
    manifests = [json.loads((run.run / "manifest.json").read_text()) for run in trained]
    assert [manifest["processes"] for manifest in manifests] == [1, 2]
    assert manifests[0]["config_hash"] == manifests[1]["config_hash"]
    assert len(list((two.run / "wandb").glob("offline-run-*"))) == 1
    assert [record["step"] for record in read_metrics(two.run)] == [1, 2, 3, 4]
    first, second = two.updates
    for ours, theirs in zip(first, second, strict=True):
        assert all(torch.equal(value, theirs["weights"][name]) for name, value in ours["weights"].items())


@dataclass
class Row:
    """A completion of the dumped batch."""

    prompt: torch.Tensor
    completion: torch.Tensor
    text: str
    correct: bool


def dumped_rollout(two: Trained, update: int) -> list[Row]:
    """The rollout of an update in the order of its groups, from the micro-batches of both processes."""
    rows: dict[int, Row] = {}
    decode = tokenizer().decode
    for rank, process in enumerate(two.updates):
        for batch in process[update - 1]["micro_batches"]:
            for index, shard_row in enumerate(batch["arm_row"].tolist()):
                prompt = batch["prompt_ids"][index][batch["prompt_mask"][index].bool()]
                completion = batch["completion_ids"][index][batch["completion_mask"][index].bool()]
                text = decode(completion, skip_special_tokens=True)
                correct = is_right(decode(prompt, skip_special_tokens=True), text)
                rows[rank * GROUPS * SIZE // 2 + shard_row] = Row(prompt, completion, text, correct)
    assert sorted(rows) == list(range(GROUPS * SIZE))
    return [rows[number] for number in sorted(rows)]


@cache
def tokenizer():
    return policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)[1]


def model_of(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    model, _ = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    model.load_state_dict(weights)
    return model.eval()


def next_token_logps(model: torch.nn.Module, row: Row) -> torch.Tensor:
    """Log-probabilities (P + C - 1, V) of the token after each token but the last, from an unpadded pass."""
    return model(input_ids=torch.cat([row.prompt, row.completion])[None]).logits[0, :-1].log_softmax(-1)


def logps(model: torch.nn.Module, row: Row) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log p of the prompt's tokens but the first, log p of the completion's tokens, and the entropy at the latter."""
    logp = next_token_logps(model, row)
    chosen = logp.gather(1, torch.cat([row.prompt, row.completion])[1:, None]).squeeze(1)
    completion_logp = logp[len(row.prompt) - 1 :]
    entropy = -(completion_logp.exp() * completion_logp).sum(-1)
    return chosen[: len(row.prompt) - 1], chosen[len(row.prompt) - 1 :], entropy


@pytest.mark.parametrize("update", range(1, UPDATES + 1))
def test_each_metric_equals_the_one_computed_from_the_dumped_batches(
    trained: tuple[Trained, Trained], update: int
) -> None:
    two = trained[1]
    logged = read_metrics(two.run)[update - 1]
    rows = dumped_rollout(two, update)
    groups = [rows[start : start + SIZE] for start in range(0, len(rows), SIZE)]
    sampled_at = update - 1 if update % 2 else update - 2  # two updates per rollout
    sampler = model_of(two.updates[0][sampled_at]["weights"])
    current = model_of(two.updates[0][update - 1]["weights"])

    # Metrics of the rollout.
    rewards = [float(row.correct) for row in rows]
    expected = {
        "step": update,
        "reward": mean(rewards),
        "pass@1": mean(rewards),
        f"pass@{SIZE}": mean(float(any(row.correct for row in group)) for group in groups),
        "completion_length": mean(len(row.completion) for row in rows),
    }

    # ARM, under the policy that sampled.
    with torch.no_grad():
        old_logps = [logps(sampler, row) for row in rows]
    c_q = [arm.confidence(prompt.tolist(), 1.0) for prompt, _, _ in old_logps]
    c_o = [arm.confidence(completion.tolist(), 0.2) for _, completion, _ in old_logps]
    before, after = [], []
    for start in range(0, len(rows), SIZE):
        group = slice(start, start + SIZE)
        advantages = arm.group_advantages(rewards[group])
        before += advantages
        given = (advantages, c_q[group], c_o[group], rewards[group])
        after += arm.reweight(*given, alpha=ALPHA, gate="any_correct", scope="all")
    solved = [any(row.correct for row in group) for group in groups]
    shifts = [b - a for index, (a, b) in enumerate(zip(before, after, strict=True)) if solved[index // SIZE]]
    assert any(solved), "no group of this rollout is re-weighted"
    expected |= {
        "arm/prompt_confidence": mean(c_q),
        "arm/answer_confidence": mean(c_o),
        "arm/answer_confidence_correct": mean(c for c, row in zip(c_o, rows, strict=True) if row.correct),
        "arm/shift_mean": mean(shifts),
        "arm/shift_std": stdev(shifts),
        "arm/gated_fraction": mean(map(float, solved)),
        "arm/sign_flips": sum(a * b < 0 for a, b in zip(before, after, strict=True)),
    }

    # Metrics of the update, over all tokens of both processes.
    tokens = sum(len(row.completion) for row in rows)
    loss, entropies, clipped = torch.tensor(0.0), [], []
    for row, (_, old, _), advantage in zip(rows, old_logps, after, strict=True):
        _, now, entropy = logps(current, row)
        ratio = (now - old).exp()
        loss = loss - torch.minimum(ratio * advantage, ratio.clamp(*CLIP) * advantage).sum() / tokens
        entropies.append(entropy.detach())
        clipped.append((ratio > CLIP[1]) & (advantage > 0) | (ratio < CLIP[0]) & (advantage < 0))
    loss.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in current.parameters()])
    expected |= {
        "entropy": torch.cat(entropies).mean().item(),
        "clip_fraction": torch.cat(clipped).float().mean().item(),
        "loss": loss.item(),
        "grad_norm": gradient.norm().item(),
    }
    for name, value in expected.items():
        # Most of a rollout's gradient cancels, so single precision gives its norm with fewer digits.
        assert logged[name] == pytest.approx(value, rel=5e-4 if name == "grad_norm" else 1e-4, abs=1e-5), name

    # A mean over completions would be a different number.
    assert mean(entropy.mean().item() for entropy in entropies) != pytest.approx(logged["entropy"], abs=1e-4)
    table = two.table(update)
    assert table["completion"].tolist() == [row.text for row in rows]
    for name, column in {"c(q)": c_q, "c(o|q)": c_o, "A": before, "A~": after}.items():
        assert table[name].tolist() == pytest.approx(column, abs=1e-4), name


def test_step_seconds_add_up_to_less_than_the_run_took(trained: tuple[Trained, Trained]) -> None:
    for run in trained:
        seconds = [record["step_seconds"] for record in read_metrics(run.run)]
        assert all(second > 0 for second in seconds)
        assert sum(seconds) < run.seconds


def test_the_dumped_run_clips_something(trained: tuple[Trained, Trained]) -> None:
    """Otherwise the test of clip_fraction would compare zeros."""
    fractions = [record["clip_fraction"] for record in read_metrics(trained[1].run)]
    assert fractions[0] == fractions[2] == 0  # on-policy
    assert fractions[1] > 0 or fractions[3] > 0


@pytest.mark.long
def test_a_signal_stops_both_at_one_boundary_and_the_same_command_continues(tmp_path: Path) -> None:
    """Then a failure in the process that is not the main one ends the run, and the manifest records it."""
    command = launch_two(tmp_path, PROGRAM)
    arguments = ["train", *RUN, "train.steps=400", "train.save_every=400", "--run-dir", "run"]
    process = command.start(*arguments)
    lines = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) >= 3, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "interrupted", err
    stopped_at = read_metrics(tmp_path / "run")[-1]["step"]
    assert stopped_at % 2 == 0
    checkpoint = tmp_path / "run" / "checkpoints" / f"checkpoint-{stopped_at}"
    assert {path.name for path in checkpoint.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    failed = command(*arguments, FAIL_IN="1")
    assert f"after update {stopped_at}" in failed.stderr
    assert "process 1: ZeroDivisionError: nobody can score this" in failed.stderr
    assert failed.returncode == 1
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "failed"
    assert read_metrics(tmp_path / "run")[-1]["step"] == stopped_at


@pytest.mark.long
def test_two_killed_processes_resume_to_the_same_metrics(tmp_path: Path) -> None:
    command = launch_two(tmp_path, "-m", "progrpo_cli")
    arguments = ["train", *RUN, "train.steps=12", "--run-dir"]
    straight = command(*arguments, "straight")
    assert straight.returncode == 0, straight.stderr
    process = command.start(*arguments, "killed")
    lines = tmp_path / "killed" / "metrics.jsonl"
    wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) >= 5, process)
    workers = psutil.Process(process.pid).children()
    for worker in [*workers, psutil.Process(process.pid)]:
        worker.kill()
    process.communicate()
    resumed = command(*arguments, "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert "continuing" in resumed.stderr
    one, other = (read_metrics(tmp_path / name) for name in ("straight", "killed"))
    assert [record["step"] for record in one] == list(range(1, 13))
    assert_same_metrics(one, other)
    again = command(*arguments, "killed")  # the other process learns that the run is finished
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stderr


TWO = {"WORLD_SIZE": "2", "RANK": "0"}


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["train", "train.prompts_per_rollout=5", "train.group_size=5"], TWO, "try train.prompts_per_rollout=6"),
        (["train", "train.generation.backend=vllm"], TWO, "train.generation.backend=hf"),
        (["train"], {"ACCELERATE_USE_FSDP": "true"}, "FSDP is not supported"),
        (["train"], {"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed is not supported"),
        (["eval", "progrpo/lab-base"], TWO, "progrpo eval runs as one process, not 2"),
    ],
)
def test_an_unsupported_use_of_several_processes_is_refused_in_one_line(
    progrpo: CommandLine, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    refused = progrpo(*arguments, **environment)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert message in line
    assert progrpo.written() == []
