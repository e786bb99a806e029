"""How the lab's base policy is made, and what the package ships."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from progrpo_cli import policy
from progrpo_cli.config.paths import ASSETS, LAB_BASE
from progrpo_cli.methods.arm import confidence
from progrpo_cli.tasks.countdown.problems import keys_of
from progrpo_cli.tasks.countdown.task import prompt_of
from progrpo_cli.training import lab_base


def test_making_it_is_seeded_and_what_it_makes_loads(tmp_path: Path) -> None:
    records = [lab_base.make(tmp_path / name, batches=2) for name in ("one", "other")]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "other")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert records[0]["final_loss_nats_per_token"] == records[1]["final_loss_nats_per_token"]
    model, tokenizer = policy.load(policy.resolve(str(tmp_path / "one")), "float32", "cpu", chat=False)
    ids = tokenizer("3 5 7 12=24:").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "3 5 7 12=24:"
    assert ids[0] == tokenizer.bos_token_id
    assert model.num_parameters() == records[0]["parameters"]


def test_the_shipped_policy_is_as_its_record_says_and_knows_its_prompts() -> None:
    record = json.loads((ASSETS / "lab-base" / "record.json").read_text())
    made_with = {"batches": lab_base.BATCHES, "batch_size": lab_base.BATCH_SIZE, "seed": lab_base.SEED}
    assert {key: record[key] for key in made_with} == made_with
    assert record["peak_learning_rate"] == lab_base.PEAK_LEARNING_RATE
    model, tokenizer = policy.load(policy.resolve(LAB_BASE), "float32", "cpu", chat=False)
    assert 700_000 < model.num_parameters() == record["parameters"] < 900_000
    prompts = [prompt_of(key) for key in keys_of("test")[:64]]
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="right")
    with torch.no_grad():
        logps = model(**encoded).logits[:, :-1].log_softmax(-1)
    chosen = logps.gather(2, encoded.input_ids[:, 1:, None])[..., 0]
    c_prompt = confidence(chosen, encoded.attention_mask[:, 1:], 1.0)
    assert 0.3 < c_prompt.mean().item() < 0.5  # 0.003 if the prompts had not been in the loss
