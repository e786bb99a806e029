"""What the tests with a real vLLM share. It is the CPU build, which `make test-long` installs."""

import importlib.util
import json
import math
import os
from pathlib import Path

import pytest
import torch

from progrpo_cli.policies import policy

ON_CPU = Path(__file__).parent / "vllm_on_cpu"
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(ON_CPU), *filter(None, [os.environ.get("PYTHONPATH")])]),
    "VLLM_ON_CPU": "keep_weights",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
SHORT = [
    "train.steps=6",
    "train.prompts_per_rollout=4",
    "train.group_size=4",
    "train.save_every=2",
    "train.learning_rate=2e-3",
]
LIVE = 0.01
"""Nats between vLLM's and TRL's log-probability of a sampled token, at most, if both have the same weights."""

# Under `make test-long` there is no excuse: vLLM is installed, or these tests fail.
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None and os.environ.get("PROGRPO_TEST_LONG") != "1",
    reason="vLLM is not installed; `make test-long` installs its CPU build",
)


def confidences_of_the_base_policy(record: Path, rows: int) -> tuple[float, float]:
    """Mean c(q) and c(o|q) of a record's first completions, each from an unpadded forward pass, in plain Python."""
    model, tokenizer = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    c_prompts, c_answers = [], []
    for line in record.read_text().splitlines()[:rows]:
        row = json.loads(line)
        prompt = tokenizer(row["prompt"]).input_ids
        ids = torch.tensor([*prompt, *row["completion_ids"]])
        with torch.no_grad():
            logps = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        chosen = [logps[position - 1, ids[position]].item() for position in range(1, len(ids))]
        of_prompt, of_answer = chosen[: len(prompt) - 1], sorted(chosen[len(prompt) - 1 :])
        lowest = of_answer[: math.ceil(round(0.2 * len(of_answer), 9))]
        c_prompts.append(math.exp(sum(of_prompt) / len(of_prompt)))
        c_answers.append(math.exp(sum(lowest) / len(lowest)))
    return sum(c_prompts) / rows, sum(c_answers) / rows
