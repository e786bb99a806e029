"""The transformers back end against the model itself: one full forward pass without a cache, in plain arithmetic."""

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


def recomputed(loaded, prompt: str, text: str, finished: bool, temperature: float) -> tuple[float, float, int]:
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
    """Rows are padded, share a prefill and leave at different times: none of it may show."""
    batch = Batch([prompt for prompt in PROMPTS for _ in range(20)], seed=5)
    (drawn,) = sampler(loaded, temperature=temperature).sample([batch])
    assert len({sample.tokens for sample in drawn}) > 3
    for prompt, sample in zip(batch.prompts, drawn, strict=True):
        entropy, logprob, tokens = recomputed(loaded, prompt, sample.text, sample.finished, temperature)
        assert sample.entropy == pytest.approx(entropy, abs=1e-5)
        assert sample.logprob == pytest.approx(logprob, abs=1e-4)
        assert sample.tokens == tokens


def test_first_tokens_have_the_frequencies_of_the_distribution(loaded):
    model, tokenizer = loaded
    (drawn,) = sampler(loaded, max_new_tokens=1).sample([Batch(PROMPTS[:1] * 4000, seed=1)])
    with torch.no_grad():
        expected = model(**tokenizer(PROMPTS[0], return_tensors="pt")).logits[0, -1].softmax(-1)
    counts = Counter(sample.text for sample in drawn)
    for token, chance in enumerate(expected.tolist()):
        text = tokenizer.decode([token], skip_special_tokens=True)
        if text:
            assert counts[text] / 4000 == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 4000) ** 0.5 + 1e-4)


def test_top_p_keeps_to_the_nucleus_and_its_entropy_is_the_nucleus_own(loaded):
    model, tokenizer = loaded
    (drawn,) = sampler(loaded, max_new_tokens=1, top_p=0.5).sample([Batch(PROMPTS[:1] * 500, seed=1)])
    with torch.no_grad():
        chances = model(**tokenizer(PROMPTS[0], return_tensors="pt")).logits[0, -1].softmax(-1)
    ordered, tokens = chances.sort(descending=True)
    nucleus = int((ordered.cumsum(0) < 0.5).sum()) + 1
    assert {sample.text for sample in drawn} == {tokenizer.decode([token]) for token in tokens[:nucleus].tolist()}
    kept = ordered[:nucleus] / ordered[:nucleus].sum()
    assert drawn[0].entropy == pytest.approx(-(kept * kept.log()).sum().item(), abs=1e-5)


def test_a_batch_does_not_depend_on_other_batches_nor_on_cores(loaded):
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


def test_sampling_leaves_no_trace(loaded):
    model, _ = loaded
    model.train()
    state = torch.random.get_rng_state()
    drawing = sampler(loaded).sample([Batch(PROMPTS, seed) for seed in range(9)])
    next(drawing)
    drawing.close()  # interrupted in the middle
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
    model.eval()


def test_a_prompt_is_read_once_for_all_its_samples_and_rows_that_ended_leave(loaded, monkeypatch):
    model, _ = loaded
    rows = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda **inputs: rows.append(tuple(inputs["input_ids"].shape)) or forward(**inputs)
    )
    list(sampler(loaded).sample([Batch([prompt for prompt in PROMPTS for _ in range(40)], seed=2)]))
    assert rows[0][0] == len(PROMPTS)
    later = [batch for batch, width in rows[1:] if width == 1]
    assert later[0] == 120
    assert later == sorted(later, reverse=True)
    assert later[-1] < 60
