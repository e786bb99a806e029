"""The loss's log-probabilities from fewer positions, with TRL's numbers and gradients."""

import copy
import random
from pathlib import Path

import pytest
import torch
from trl import GRPOTrainer

from progrpo_cli.config.compose import compose
from progrpo_cli.policies import policy
from progrpo_cli.tasks.registry import make_task
from progrpo_cli.training.adapters import lora_config
from progrpo_cli.training.data import reward_functions, rollout_prompts
from progrpo_cli.training.lean_scoring import parts_by_length
from progrpo_cli.training.recipe import grpo_config
from progrpo_cli.training.trainer import LabTrainer

ROWS, PROMPTS, PROMPT, COMPLETION = 96, 6, 15, 24


def make_trainer(directory: Path, *overrides: str) -> LabTrainer:
    config = compose(["method=grpo", "device=cpu", "train.steps=2", *overrides])
    task = make_task(config.task)
    problems = task.problems("rl")
    model, tokenizer = policy.load(policy.resolve(config.model.path), "float32", "cpu", chat=False)
    return LabTrainer(
        method=config.method,
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward_functions(config, task, problems, [tokenizer.eos_token_id]),
        args=grpo_config(config, directory, "cpu"),
        train_dataset=rollout_prompts(config, problems, chat=False),
        peft_config=lora_config(config.model.lora, model),
    )


def batch(prompts: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and completion mask of rows with prompts padded left and completions padded right."""
    rng = random.Random(0)
    texts = [[rng.randrange(3, 20) for _ in range(rng.randrange(8, PROMPT + 1))] for _ in range(prompts)]
    ids, mask = torch.zeros((ROWS, PROMPT + COMPLETION), dtype=torch.long), torch.zeros((ROWS, PROMPT + COMPLETION))
    for row in range(ROWS):
        prompt = texts[row % prompts]
        length = COMPLETION if row == 5 else rng.randrange(1, 12)
        ids[row, PROMPT - len(prompt) : PROMPT] = torch.tensor(prompt)
        ids[row, PROMPT : PROMPT + length] = torch.tensor([rng.randrange(3, 20) for _ in range(length)])
        mask[row, PROMPT - len(prompt) : PROMPT + length] = 1
    return ids, mask.long(), mask[:, PROMPT:]


def scores(scoring, trainer: LabTrainer, rows: tuple) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of the completion tokens, and the gradient of a weighted sum of the former."""
    ids, mask, tokens = rows
    trainer.model.zero_grad()
    logps, entropies, _ = scoring(trainer.model, ids, mask, COMPLETION, compute_entropy=True)
    weights = torch.linspace(-1, 1, logps.numel()).view_as(logps)
    (logps * weights * tokens).sum().backward()
    gradients = [p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]
    return logps.detach() * tokens, entropies.detach() * tokens, torch.cat(gradients)


@pytest.mark.parametrize("overrides", [[], ["model.lora.rank=2"], ["train.gradient_checkpointing=true"]])
@pytest.mark.parametrize("prompts", [PROMPTS, ROWS], ids=["shared prompts", "a prompt a row"])
def test_scores_and_gradients_equal_those_of_trls_own_pass(overrides: list, prompts: int, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, *overrides)
    rows = batch(prompts)
    shapes = []
    decoder = trainer.accelerator.unwrap_model(trainer.model).get_decoder()
    decoder.register_forward_pre_hook(
        lambda _, args, inputs: shapes.append(inputs["input_ids"].shape), with_kwargs=True
    )
    ours = scores(trainer._get_per_token_logps_and_entropies, trainer, rows)
    positions = sum(count * width for count, width in shapes)
    shapes.clear()
    trls = scores(lambda *a, **k: GRPOTrainer._get_per_token_logps_and_entropies(trainer, *a, **k), trainer, rows)
    assert positions < 0.8 * sum(count * width for count, width in shapes), "no positions were saved"
    for one, other in zip(ours, trls, strict=True):
        assert other.any()
        assert (one - other).norm() < 1e-5 * other.norm(), "equal up to the rounding of sums"


def test_a_prompt_is_read_once(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    shapes = []
    trainer.model.get_decoder().register_forward_pre_hook(
        lambda _, args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    ids, mask, _ = batch(PROMPTS)
    with torch.no_grad():
        trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, COMPLETION)
    assert shapes[0] == (PROMPTS, PROMPT - 1)
    assert sum(rows for rows, _ in shapes[1:]) == ROWS
    assert max(width for _, width in shapes[1:]) == COMPLETION + 1


def test_a_method_that_reads_hidden_states_gets_one_pass(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "method=flowrl")
    assert trainer.whole_batches


def test_parts_have_similar_lengths_and_exist_only_if_they_save_positions() -> None:
    ends = torch.tensor([10] * 64 + [40] * 64)
    parts = parts_by_length(ends, 40)
    assert [int(ends[part].max()) for part in parts] == [40, 40, 10, 10]
    assert torch.cat(parts).sort().values.tolist() == list(range(128))
    assert len(parts_by_length(torch.full((128,), 40), 40)) == 1
    assert len(parts_by_length(torch.tensor([1] * 60 + [40]), 40)) == 1, "too few rows"


def test_our_loop_draws_rollouts_from_the_random_state_of_the_process(tmp_path: Path) -> None:
    """The same state gives the same completions, which end at any of the trainer's end tokens."""
    trainer = make_trainer(tmp_path)
    end = trainer.processing_class.eos_token_id
    prompts = [trainer.processing_class(text).input_ids for text in ("3 5 7 12=24:", "1 2 3 4=9:") for _ in range(80)]

    def draw(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return trainer._generate_single_turn(prompts, None, {}, 80)[0]

    first = draw(1)
    assert first == draw(1)
    assert first != draw(2)
    assert all(tokens.index(end) == len(tokens) - 1 for tokens in first if end in tokens)
    assert {len(tokens) for tokens in first if end not in tokens} <= {trainer.max_completion_length}
    three = trainer.processing_class.convert_tokens_to_ids("3")
    trainer.eos_token_ids = [end, three]
    stopped = draw(1)
    assert any(tokens[-1] == three for tokens in stopped)
    assert all({end, three}.isdisjoint(tokens[:-1]) for tokens in stopped)


def test_the_loop_and_generate_draw_from_the_same_distribution(tmp_path: Path) -> None:
    """The frequencies of first tokens are within sampling error of the model's own probabilities."""
    trainer = make_trainer(tmp_path, "task.max_new_tokens=1", "train.temperature=0.7")
    ids = trainer.processing_class("3 5 7 12=24:").input_ids
    with torch.no_grad():
        expected = (trainer.model(torch.tensor([ids])).logits[0, -1] / 0.7).softmax(-1)
    by_loop = trainer._generate_single_turn([ids] * 4000, None, {}, 4000)[0]
    by_generate = GRPOTrainer._generate_single_turn(copy.copy(trainer), [ids] * 4000, None, {}, 4000)[0]
    for completions in (by_loop, by_generate):
        frequencies = torch.tensor([tokens[0] for tokens in completions]).bincount(minlength=len(expected)) / 4000
        assert ((frequencies - expected).abs() <= 4 * (expected * (1 - expected) / 4000).sqrt() + 1e-4).all()
