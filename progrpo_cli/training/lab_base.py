"""Make the lab's base policy: ``python -m progrpo_cli.training.lab_base OUT`` (half an hour on one slow core).

A small Llama over a character tokenizer, trained by teacher forcing on random (problem, correct expression) pairs of
the ``base`` split only. The prompt's tokens are in the loss too: without that the prompt confidence of ARM, which is
read off the policy's probabilities of the PROMPT, would be the confidence of an untrained model.
"""

from __future__ import annotations

import json
import platform
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from progrpo_cli.tasks.countdown.task import prompt_of
from progrpo_cli.training.lab_pairs import random_pair

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 0
BATCHES = 1600
BATCH_SIZE = 256
PEAK_LEARNING_RATE = 3e-3
WARMUP_BATCHES = 100
SPECIAL = ("<pad>", "<bos>", "<eos>")
CHARACTERS = "0123456789 +-*()=:"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; a beginning-of-sequence token is put before every text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=128,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained policy of about 0.8 M parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def make(out: Path, batches: int = BATCHES) -> dict[str, Any]:
    """Train the base policy and write it to ``out`` with ``record.json``, the record of how it was made.

    Weights are stored in half precision (1.6 MB); they are loaded in single precision.
    """
    import torch
    import transformers

    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.01)
    schedule = transformers.get_cosine_schedule_with_warmup(optimiser, WARMUP_BATCHES, batches)
    started = time.monotonic()
    for step, texts in enumerate(_batches(rng, tokenizer, batches), start=1):
        encoded = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False)
        labels = encoded.input_ids.masked_fill(encoded.attention_mask == 0, -100)
        loss = model(**encoded, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"batch {step}/{batches} loss {loss.item():.4f}", file=sys.stderr, flush=True)
    record = {
        "command": "make lab-base",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": SEED,
        "batches": batches,
        "batch_size": BATCH_SIZE,
        "peak_learning_rate": PEAK_LEARNING_RATE,
        "warmup_batches": WARMUP_BATCHES,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "final_loss_nats_per_token": round(loss.item(), 4),
        "seconds": round(time.monotonic() - started),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def _batches(rng: random.Random, tokenizer: PreTrainedTokenizerFast, batches: int) -> Iterator[list[str]]:
    for _ in range(batches):
        pairs = (random_pair(rng) for _ in range(BATCH_SIZE))
        yield [f"{tokenizer.bos_token}{prompt_of(key)}{text}{tokenizer.eos_token}" for key, text in pairs]


if __name__ == "__main__":
    print(json.dumps(make(Path(sys.argv[1])), indent=2))
