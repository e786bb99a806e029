"""Make the lab's base policy: ``python -m progrpo_cli.tasks.countdown.base_policy OUT --work DIR``. Takes an hour.

The policy is a small Llama, trained with teacher forcing on random problems of the ``base`` split. The learning rate is
constant for ``--steady`` batches and then falls to 0 in ``--decay`` batches, so policies can be branched off at several
points of one steady training. If it is stopped, the same command continues from the newest state in DIR.
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

from progrpo_cli.tasks.countdown.base_pairs import MAX_TRIES, PIECES, VOCABULARY, Batch, join, make_rows
from progrpo_cli.tasks.countdown.styles import STEPWISE, Style

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 0
STEADY = 3000
DECAY = 400
LEARNING_RATES = {"muon": 6e-3, "adamw": 3e-3}
"""Muon trains the matrices of the layers: after 200 batches the loss was 0.52 with it and 0.94 with AdamW alone."""
WARMUP = 100
ROWS: dict[int, dict[Style, int]] = {
    0: {"direct": 80, "sum": 36, "product": 80},
    1000: {"direct": 32, "sum": 36, "product": 128},
}
"""Rows of each style in a batch, by the first batch with these counts. Half of the rows with steps have two tries."""
STYLE_SHARE = 0.04
"""The probability with which the policy chooses each of the styles with steps."""
SAVE_EVERY = 250
KEEP_EVERY = 1000


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Create the tokenizer: one token per number below 100, sign or style name, and a BOS token before each text."""
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
    """Create an untrained policy with about 1.1 M parameters."""
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


def make_batch(rng: np.random.Generator, batch: int) -> list[Batch]:
    """Make the parts of a batch. The rows of a part have similar lengths, so there is little padding."""
    counts = ROWS[max(first for first in ROWS if first <= batch)]
    odds = STYLE_SHARE / (1 - STYLE_SHARE * len(STEPWISE))
    weights = {style: odds * counts["direct"] / counts[style] for style in STEPWISE}
    stepwise = [
        join([make_rows(rng, style, counts[style] // MAX_TRIES, tries, weights[style]) for style in STEPWISE])
        for tries in range(1, MAX_TRIES + 1)
    ]
    return [make_rows(rng, "direct", counts["direct"]), *stepwise]


def rate_factor(batch: int, steady: int, decay: int) -> float:
    """Return the factor on the learning rates for a batch, counted from 0: warmup, steady training, decay."""
    return min(1.0, (batch + 1) / WARMUP) * min(1.0, 1 - (batch - steady) / (decay + 1))


class Training:
    """The state of a training: policy, optimisers, random numbers and count of batches."""

    def __init__(self) -> None:
        import torch

        torch.manual_seed(SEED)
        self.model = make_model()
        _use_single_precision_attention(self.model)
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

    def step(self, factor: float) -> None:
        """Train on one batch, with the learning rates multiplied by ``factor``."""
        import torch

        started = time.monotonic()
        parts = make_batch(self.rng, self.batch)
        total = sum(float(part.weights[:, 1:].sum()) for part in parts)
        self.loss = 0.0
        for part in parts:
            loss = self._loss(torch.from_numpy(part.ids), torch.from_numpy(part.weights)) / total
            loss.backward()  # type: ignore[no-untyped-call]
            self.loss += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = factor * LEARNING_RATES[name]
            optimiser.step()
            optimiser.zero_grad()
        self.batch += 1
        self.seconds += time.monotonic() - started

    def _loss(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.autocast("cpu", torch.bfloat16):  # a third faster if the processor supports bfloat16, else as fast
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        learned = weights[:, 1:] > 0
        losses = torch.nn.functional.cross_entropy(logits[learned].float(), ids[:, 1:][learned], reduction="none")
        return (losses * weights[:, 1:][learned]).sum()

    def save(self, path: Path) -> None:
        """Write the state to a file, atomically."""
        import torch

        state = {
            "model": self.model.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "rng": json.dumps(self.rng.bit_generator.state),
            "batch": self.batch,
            "seconds": self.seconds,
            "loss": self.loss,
        }
        partial = path.with_suffix(".part")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Load a state that :meth:`save` wrote."""
        import torch

        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.batch, self.seconds, self.loss = state["batch"], state["seconds"], state["loss"]


def _use_single_precision_attention(model: LlamaForCausalLM) -> None:
    """Compute attention in float32: on CPUs its backward pass in bfloat16 takes longer than all else together."""
    import torch
    from transformers import AttentionInterface

    def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **_: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            output = torch.nn.functional.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), is_causal=True, scale=scaling
            )
        return output.transpose(1, 2).contiguous(), None

    AttentionInterface.register("single_precision", attention)
    model.set_attn_implementation("single_precision")


def train(work: Path, steady: int, decay: int) -> Training:
    """Train to the last batch, from the newest usable state in ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    training = Training()
    decaying = work / f"decay-{steady}-{decay}.pt"
    states = {int(path.stem.rpartition("-")[2]): path for path in work.glob("steady-*.pt")}
    usable = [batch for batch in states if batch <= steady]
    if decaying.exists():
        training.load(decaying)
    elif usable:
        training.load(states[max(usable)])
    if training.batch:
        print(f"continuing from batch {training.batch}", file=sys.stderr, flush=True)
    while training.batch < steady + decay:
        training.step(rate_factor(training.batch, steady, decay))
        if training.batch % 50 == 0:
            speed = training.seconds / training.batch
            print(
                f"batch {training.batch}/{steady + decay} loss {training.loss:.4f} {speed:.2f} s/batch",
                file=sys.stderr,
                flush=True,
            )
        if training.batch % SAVE_EVERY == 0 or training.batch == steady:
            if training.batch > steady:
                training.save(decaying)
            else:
                training.save(work / f"steady-{training.batch}.pt")
                previous = training.batch - SAVE_EVERY
                if previous % KEEP_EVERY:
                    (work / f"steady-{previous}.pt").unlink(missing_ok=True)
    return training


def make(out: Path, work: Path, steady: int = STEADY, decay: int = DECAY) -> dict[str, Any]:
    """Train the base policy and write it to ``out``, with a record of its training in ``record.json``.

    Weights are stored in half precision and loaded in single precision.
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
    parser.add_argument("--work", type=Path, required=True, help="directory for the states of the training")
    parser.add_argument("--steady", type=int, default=STEADY, help="batches with a constant learning rate")
    parser.add_argument("--decay", type=int, default=DECAY, help="batches in which the learning rate falls to 0")
    arguments = parser.parse_args()
    print(json.dumps(make(arguments.out, arguments.work, arguments.steady, arguments.decay), indent=2))
