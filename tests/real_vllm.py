"""Shared parts of the tests with a real vLLM: the CPU build, which `make test-long` installs."""

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
"""Largest difference, in nats, between vLLM's and TRL's log-probability of a token, if both have the same weights."""

# In `make test-long` these tests fail if vLLM is not installed.
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None and os.environ.get("PROGRPO_TEST_LONG") != "1",
    reason="vLLM is not installed; `make test-long` installs its CPU build",
)


def confidences_of_the_base_policy(record: Path, rows: int) -> tuple[float, float]:
    """Return the mean c(q) and c(o|q) of a record's first completions, from unpadded forward passes."""
    model, tokenizer = policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)
    c_prompts, c_answers = [], []
    for line in record.read_text().splitlines()[:rows]:
        row = json.loads(line)
        prompt = tokenizer(row["prompt"]).input_ids
        ids = torch.tensor([*prompt, *row["completion_ids"]])
        with torch.no_grad():
            logps = model(input_ids=ids[None]).logits[0].log_softmax(-1)
        token_logps = [logps[position - 1, ids[position]].item() for position in range(1, len(ids))]
        prompt_logps, answer_logps = token_logps[: len(prompt) - 1], sorted(token_logps[len(prompt) - 1 :])
        lowest = answer_logps[: math.ceil(round(0.2 * len(answer_logps), 9))]
        c_prompts.append(math.exp(sum(prompt_logps) / len(prompt_logps)))
        c_answers.append(math.exp(sum(lowest) / len(lowest)))
    return sum(c_prompts) / rows, sum(c_answers) / rows
