"""Make the lab's base policy: ``python -m progrpo_cli.tasks.countdown.base_policy OUT --work DIR``: an hour.

A small Llama, trained by teacher forcing on random problems of the ``base`` split. The learning rate is constant for
``--steady`` batches and then falls to 0 in ``--decay`` batches, so that a policy can be cut off at any time while the
steady training goes on. Stopped, it continues from the newest state in DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from progrpo_cli.tasks.countdown.base_pairs import MAX_TRIES, PIECES, VOCABULARY, Batch, joined, rows
from progrpo_cli.tasks.countdown.ways import STEPWISE, Way

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 0
STEADY = 3000
DECAY = 400
LEARNING_RATES = {"muon": 6e-3, "adamw": 3e-3}
"""Muon is for the matrices of the layers: after 200 batches the loss was 0.52 with it and 0.94 with AdamW alone."""
WARMUP = 100
ROWS: dict[int, dict[Way, int]] = {
    0: {"direct": 80, "sum": 36, "product": 80},
    1000: {"direct": 32, "sum": 36, "product": 128},
}
"""Of a batch, from so many batches on: what is easy first. Half of those with steps are right at the second try."""
SHARE = 0.04
"""How often the policy chooses each of the other ways."""
SAVE_EVERY = 250
KEEP_EVERY = 1000


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a number below 100, a sign or a way's name; a beginning-of-sequence token is put before every text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(dict(VOCABULARY), unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", VOCABULARY["<bos>"])]
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


def make_model() -> LlamaForCausalLM:
    """An untrained policy of about 1.1 M parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            pad_token_id=VOCABULARY["<pad>"],
            bos_token_id=VOCABULARY["<bos>"],
            eos_token_id=VOCABULARY["<eos>"],
        )
    )


def batch_of(rng: np.random.Generator, batch: int) -> list[Batch]:
    """The parts of a batch. Rows of a part have about the same length, so that little work goes to padding."""
    counts = ROWS[max(first for first in ROWS if first <= batch)]
    odds = SHARE / (1 - SHARE * len(STEPWISE))
    choice = {way: odds * counts["direct"] / counts[way] for way in STEPWISE}
    stepwise = [
        joined([rows(rng, way, counts[way] // MAX_TRIES, tries, choice[way]) for way in STEPWISE])
        for tries in range(1, MAX_TRIES + 1)
    ]
    return [rows(rng, "direct", counts["direct"]), *stepwise]


def rate_of(batch: int, steady: int, decay: int) -> float:
    """The part of the learning rates with which a batch is learned, counted from 0."""
    return min(1.0, (batch + 1) / WARMUP) * min(1.0, 1 - (batch - steady) / (decay + 1))


class Training:
    """The policy in training, its optimiser, the stream of random numbers and the count of batches."""

    def __init__(self) -> None:
        import torch

        torch.manual_seed(SEED)
        self.model = make_model()
        _attend_in_single_precision(self.model)
        matrices = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if parameter.ndim == 2 and "embed" not in name
        }
        others = [parameter for name, parameter in self.model.named_parameters() if name not in matrices]
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "muon": torch.optim.Muon(matrices.values(), weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            "adamw": torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.01),
        }
        self.rng = np.random.default_rng(SEED)
        self.batch = 0
        self.seconds = 0.0
        self.loss = float("nan")

    def step(self, rate: float) -> None:
        """Learn from one batch."""
        import torch

        started = time.monotonic()
        parts = batch_of(self.rng, self.batch)
        total = sum(float(part.weights[:, 1:].sum()) for part in parts)
        self.loss = 0.0
        for part in parts:
            loss = self._loss(torch.from_numpy(part.ids), torch.from_numpy(part.weights)) / total
            loss.backward()  # type: ignore[no-untyped-call]
            self.loss += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = rate * LEARNING_RATES[name]
            optimiser.step()
            optimiser.zero_grad()
        self.batch += 1
        self.seconds += time.monotonic() - started

    def _loss(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.autocast("cpu", torch.bfloat16):  # a third faster where the processor has bfloat16, else the same
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        counts = weights[:, 1:] > 0
        each = torch.nn.functional.cross_entropy(logits[counts].float(), ids[:, 1:][counts], reduction="none")
        return (each * weights[:, 1:][counts]).sum()

    def save(self, path: Path) -> None:
        """Write all of it; a reader never sees half a file."""
        import torch

        state = {
            "model": self.model.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "rng": json.dumps(self.rng.bit_generator.state),
            "batch": self.batch,
            "seconds": self.seconds,
            "loss": self.loss,
        }
        part = path.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        """Go on from a file that :meth:`save` wrote."""
        import torch

        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.batch, self.seconds, self.loss = state["batch"], state["seconds"], state["loss"]


def _attend_in_single_precision(model: LlamaForCausalLM) -> None:
    """The backward pass of attention in bfloat16 is slower on CPUs than all the rest together."""
    import torch
    from transformers import AttentionInterface

    def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            mixed = torch.nn.functional.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), is_causal=True, scale=scaling
            )
        return mixed.transpose(1, 2).contiguous(), None

    AttentionInterface.register("single_precision", attention)
    model.set_attn_implementation("single_precision")


def train(work: Path, steady: int, decay: int) -> Training:
    """Train until the last batch, from the newest state in ``work`` that is on the way to it."""
    work.mkdir(parents=True, exist_ok=True)
    training = Training()
    falling = work / f"decay-{steady}-{decay}.pt"
    states = {int(path.stem.rpartition("-")[2]): path for path in work.glob("steady-*.pt")}
    on_the_way = [batch for batch in states if batch <= steady]
    if falling.exists():
        training.load(falling)
    elif on_the_way:
        training.load(states[max(on_the_way)])
    if training.batch:
        print(f"going on from batch {training.batch}", file=sys.stderr, flush=True)
    while training.batch < steady + decay:
        training.step(rate_of(training.batch, steady, decay))
        if training.batch % 50 == 0:
            speed = training.seconds / training.batch
            print(
                f"batch {training.batch}/{steady + decay} loss {training.loss:.4f} {speed:.2f} s/batch",
                file=sys.stderr,
                flush=True,
            )
        if training.batch % SAVE_EVERY == 0 or training.batch == steady:
            if training.batch > steady:
                training.save(falling)
            else:
                training.save(work / f"steady-{training.batch}.pt")
                before = training.batch - SAVE_EVERY
                if before % KEEP_EVERY:
                    (work / f"steady-{before}.pt").unlink(missing_ok=True)
    return training


def make(out: Path, work: Path, steady: int = STEADY, decay: int = DECAY) -> dict[str, Any]:
    """Train the base policy and write it to ``out`` with ``record.json``, the record of how it was made.

    Weights are stored in half precision; they are loaded in single precision.
    """
    import torch
    import transformers

    training = train(work, steady, decay)
    record = {
        "command": "make lab-base",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": SEED,
        "steady_batches": steady,
        "decay_batches": decay,
        "rows_of_a_batch": ROWS,
        "learning_rates": LEARNING_RATES,
        "parameters": sum(parameter.numel() for parameter in training.model.parameters()),
        "final_loss_nats_per_token": round(training.loss, 4),
        "seconds": round(training.seconds),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    out.mkdir(parents=True, exist_ok=True)
    training.model.half().save_pretrained(out)
    make_tokenizer().save_pretrained(out)
    (out / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="where states are kept while it trains")
    parser.add_argument("--steady", type=int, default=STEADY, help="batches at the constant learning rate")
    parser.add_argument("--decay", type=int, default=DECAY, help="batches in which it falls to 0")
    arguments = parser.parse_args()
    print(json.dumps(make(arguments.out, arguments.work, arguments.steady, arguments.decay), indent=2))
