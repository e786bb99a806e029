"""The transformers back end against a full forward pass of the model without a cache."""

import threading
from collections import Counter

import pytest
import torch

from progrpo_cli.policies import policy
from progrpo_cli.sampling.base import Batch
from progrpo_cli.sampling.hf import HfSampler

PROMPTS = ["3 5 7 12=24:", "1 2 3 4=9:", "10 11 12 12=99:"]


@pytest.fixture(scope="module")
def loaded():
    return policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)


def sampler(loaded, **changes) -> HfSampler:
    settings = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 24, "chat": False, **changes}
    return HfSampler(*loaded, **settings)


def recompute(loaded, prompt: str, text: str, finished: bool, temperature: float) -> tuple[float, float, int]:
    """Mean entropy, sum of log-probabilities and length of a completion."""
    model, tokenizer = loaded
    start = tokenizer(prompt).input_ids
    answer = [*tokenizer(text, add_special_tokens=False).input_ids, *([tokenizer.eos_token_id] if finished else [])]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([start + answer])).logits[0, len(start) - 1 : -1].double() / temperature
    logp = logits.log_softmax(-1)
    entropy = -(logp.exp() * logp).sum(-1).mean()
    return entropy.item(), logp[range(len(answer)), answer].sum().item(), len(answer)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_entropy_and_logprob_are_those_of_a_full_forward_pass(loaded, temperature):
    """Padding, the shared prefill and the removal of ended rows must have no effect."""
    batch = Batch([prompt for prompt in PROMPTS for _ in range(20)], seed=5)
    (drawn,) = sampler(loaded, temperature=temperature).sample([batch])
    assert len({sample.tokens for sample in drawn}) > 3
    for prompt, sample in zip(batch.prompts, drawn, strict=True):
        entropy, logprob, tokens = recompute(loaded, prompt, sample.text, sample.finished, temperature)
        assert sample.entropy == pytest.approx(entropy, abs=1e-5)
        assert sample.logprob == pytest.approx(logprob, abs=1e-4)
        assert sample.tokens == tokens


def test_first_tokens_have_the_frequencies_of_the_distribution(loaded):
    model, tokenizer = loaded
    (drawn,) = sampler(loaded, max_new_tokens=1).sample([Batch(PROMPTS[:1] * 4000, seed=1)])
    with torch.no_grad():
        expected = model(**tokenizer(PROMPTS[0], return_tensors="pt")).logits[0, -1].softmax(-1)
    counts = Counter(sample.text for sample in drawn)
    for token, p in enumerate(expected.tolist()):
        text = tokenizer.decode([token], skip_special_tokens=True)
        if text:
            assert counts[text] / 4000 == pytest.approx(p, abs=4 * (p * (1 - p) / 4000) ** 0.5 + 1e-4)


def test_top_p_samples_from_the_nucleus_and_reports_its_entropy(loaded):
    model, tokenizer = loaded
    (drawn,) = sampler(loaded, max_new_tokens=1, top_p=0.5).sample([Batch(PROMPTS[:1] * 500, seed=1)])
    with torch.no_grad():
        probabilities = model(**tokenizer(PROMPTS[0], return_tensors="pt")).logits[0, -1].softmax(-1)
    ordered, tokens = probabilities.sort(descending=True)
    size = int((ordered.cumsum(0) < 0.5).sum()) + 1
    assert {sample.text for sample in drawn} == {tokenizer.decode([token]) for token in tokens[:size].tolist()}
    nucleus = ordered[:size] / ordered[:size].sum()
    assert drawn[0].entropy == pytest.approx(-(nucleus * nucleus.log()).sum().item(), abs=1e-5)


def test_a_batch_depends_neither_on_other_batches_nor_on_the_number_of_cores(loaded):
    batches = [Batch([prompt] * 12, seed) for seed, prompt in enumerate(PROMPTS * 2)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = list(sampler(loaded).sample(batches))
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        assert [next(sampler(loaded).sample([batch])) for batch in batches] == together
    finally:
        torch.set_num_threads(before)


def test_sampling_restores_mode_and_random_state_even_if_interrupted(loaded):
    model, _ = loaded
    model.train()
    state = torch.random.get_rng_state()
    samples = sampler(loaded).sample([Batch(PROMPTS, seed) for seed in range(9)])
    next(samples)
    samples.close()  # interrupted in the middle
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
    model.eval()


def test_a_prompt_is_read_once_for_all_its_samples_and_ended_rows_are_removed(loaded, monkeypatch):
    model, _ = loaded
    shapes = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda **inputs: shapes.append(tuple(inputs["input_ids"].shape)) or forward(**inputs)
    )
    list(sampler(loaded).sample([Batch([prompt for prompt in PROMPTS for _ in range(40)], seed=2)]))
    assert shapes[0][0] == len(PROMPTS)
    rows = [count for count, width in shapes[1:] if width == 1]
    assert rows[0] == 120
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] < 60
