"""ARM inside TRL: the advantages of a real rollout against our own forward pass of each sample."""

import math
from pathlib import Path

import pytest
import torch

from progrpo_cli.config.compose import compose
from progrpo_cli.policies import policy
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.training.data import reward_functions, rollout_prompts
from progrpo_cli.training.recipe import grpo_config
from progrpo_cli.training.trainer import LabTrainer

GROUPS, SIZE = 12, 4
SETTINGS = [
    f"train.prompts_per_rollout={GROUPS}",
    f"train.group_size={SIZE}",
    "train.steps=4",
    "method.arm.alpha=0.7",
]


def rollout(directory: Path, *overrides: str) -> tuple[LabTrainer, dict, list[float]]:
    config = compose([*SETTINGS, *overrides])
    task = make_task(config.task)
    problems = task.problems("rl")
    model, tokenizer = policy.load(policy.resolve(config.model.path), "float32", "cpu", chat=False)
    data = rollout_prompts(config, problems, chat=False)
    trainer = LabTrainer(
        method=config.method,
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward_functions(config, task, problems, [tokenizer.eos_token_id]),
        args=grpo_config(config, directory, "cpu"),
        train_dataset=data,
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = [data[row] for row in range(GROUPS) for _ in range(SIZE)]
    output = trainer._generate_and_score_completions(inputs)
    return trainer, output, trainer._rollout.rewards[:, 0].tolist()


def confidences(model: torch.nn.Module, output: dict, row: int, rho: float) -> tuple[float, float]:
    """c(q) and c(o|q) of one sample, from an unpadded forward pass and plain Python."""
    prompt = output["prompt_ids"][row][output["prompt_mask"][row].bool()]
    completion = output["completion_ids"][row][output["completion_mask"][row].bool()]
    ids = torch.cat([prompt, completion])
    model.eval()
    with torch.no_grad():
        logps = model(input_ids=ids[None]).logits[0].log_softmax(-1)
    chosen = [logps[position - 1, ids[position]].item() for position in range(1, len(ids))]
    prompt_logps, completion_logps = chosen[: len(prompt) - 1], sorted(chosen[len(prompt) - 1 :])
    lowest = completion_logps[: math.ceil(round(rho * len(completion_logps), 9))]
    return math.exp(sum(prompt_logps) / len(prompt_logps)), math.exp(sum(lowest) / len(lowest))


@pytest.mark.parametrize("updates", [1, 2])  # TRL scores the rollout itself only with several updates
def test_the_advantages_of_a_rollout_follow_the_formulas(tmp_path: Path, updates: int) -> None:
    trainer, output, rewards = rollout(tmp_path, f"train.updates_per_rollout={updates}")
    assert ("old_per_token_logps" in output) is (updates == 2)
    loss = trainer._compute_loss(trainer.model, output)
    metrics = trainer.rollout_metrics
    table = {name: list(column) for name, column in trainer._logs["extra"].items()}
    flips = 0
    c_prompts, c_answers = [], []
    for group in range(GROUPS):
        r = rewards[SIZE * group : SIZE * (group + 1)]
        mean = sum(r) / SIZE
        std = math.sqrt(sum((x - mean) ** 2 for x in r) / (SIZE - 1))
        for row in range(SIZE * group, SIZE * (group + 1)):
            advantage = (rewards[row] - mean) / (std + 1e-4)
            c_q, c_o = confidences(trainer.model, output, row, 0.2)
            c_prompts.append(c_q)
            c_answers.append(c_o)
            expected = advantage + 0.7 * (c_q - c_o) if sum(r) else advantage
            flips += advantage * expected < 0
            actual = [table[name][row] for name in ("c(q)", "c(o|q)", "A", "A~")]
            assert actual == pytest.approx([c_q, c_o, advantage, expected], abs=1e-4)
    solved = sum(any(rewards[SIZE * group : SIZE * (group + 1)]) for group in range(GROUPS))
    assert 0 < solved < GROUPS, "both kinds of group must be in the rollout"
    # The first update is on-policy: every ratio is 1, and the loss is the mean over tokens of -A~.
    lengths = output["completion_mask"].sum(dim=1)
    expected_loss = -(torch.tensor(table["A~"]) * lengths).sum() / lengths.sum()
    assert loss.item() == pytest.approx(expected_loss.item(), abs=1e-4)
    assert metrics["arm/prompt_confidence"] == pytest.approx(sum(c_prompts) / len(c_prompts), abs=1e-5)
    assert metrics["arm/answer_confidence"] == pytest.approx(sum(c_answers) / len(c_answers), abs=1e-5)
    assert metrics["arm/sign_flips"] == flips
    assert metrics["pass@1"] == pytest.approx(sum(rewards) / len(rewards))
    assert metrics[f"pass@{SIZE}"] == pytest.approx(solved / GROUPS)
    assert metrics["arm/gated_fraction"] == pytest.approx(solved / GROUPS)


def test_without_arm_the_advantages_are_trls(tmp_path: Path) -> None:
    _, plain, rewards = rollout(tmp_path / "plain", "method.arm.alpha=0")
    for group in range(GROUPS):
        r = torch.tensor(rewards[SIZE * group : SIZE * (group + 1)])
        expected = (r - r.mean()) / (r.std() + 1e-4)
        assert torch.allclose(plain["advantages"][SIZE * group : SIZE * (group + 1)], expected, atol=1e-6)


def test_rollout_state_is_reset_by_the_next_rollout_and_loss_state_after_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, output, _ = rollout(tmp_path, "train.updates_per_rollout=1")
    first = trainer._rollout
    assert first.arm is not None  # on-policy: applied in the loss
    trainer._compute_loss(trainer.model, output)
    assert first.arm is None
    metrics = trainer.rollout_metrics
    assert trainer.rollout_metrics == metrics
    inputs = [trainer.train_dataset[row] for row in range(GROUPS) for _ in range(SIZE)]
    second = trainer._generate_and_score_completions(inputs)
    assert trainer._rollout is not first
    assert "arm/shift_mean" not in trainer.rollout_metrics  # no metric of the previous rollout

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(trainer, "_make_loss_terms", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        trainer._compute_loss(trainer.model, second)
    assert trainer._loss_call is None
