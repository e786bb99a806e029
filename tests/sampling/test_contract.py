"""Tests that every back end must pass on the lab's base policy: transformers, and vLLM if it is installed."""

import pytest
import torch
from real_vllm import ENVIRONMENT, needs_vllm

from progrpo_cli.policies import policy
from progrpo_cli.sampling.base import Batch

PROMPTS = ["3 5 7 12=24:", "1 2 3 4=9:", "10 11 12 12=99:"]
BATCHES = [Batch([prompt for prompt in PROMPTS for _ in range(10)], seed=1), Batch(PROMPTS[:1] * 5, seed=2)]


@pytest.fixture(scope="module")
def reference():
    return policy.load(policy.resolve("progrpo/lab-base"), "float32", "cpu", chat=False)


@pytest.fixture(scope="module", params=["hf", pytest.param("vllm", marks=[pytest.mark.long, needs_vllm])])
def make_sampler(request, reference):
    """A function that makes samplers with these settings."""
    settings = {"temperature": 0.8, "top_p": 1.0, "max_new_tokens": 20, "chat": False}
    model, tokenizer = reference
    if request.param == "hf":
        from progrpo_cli.sampling.hf import HfSampler

        yield lambda **changes: HfSampler(model, tokenizer, **{**settings, **changes})
        return
    from progrpo_cli.sampling.vllm import VllmSampler

    location = policy.resolve("progrpo/lab-base").location
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield lambda **changes: VllmSampler(
            location, tokenizer, dtype="float32", ends=[tokenizer.eos_token_id], **{**settings, **changes}
        )


@pytest.fixture(scope="module")
def drawn(make_sampler):
    return list(make_sampler().sample(BATCHES))


def assert_same(one, other):
    """Assert the same completions. vLLM's scheduling may round their log-probabilities differently."""
    assert [(s.text, s.tokens, s.finished) for s in one] == [(s.text, s.tokens, s.finished) for s in other]
    assert [s.logprob for s in one] == pytest.approx([s.logprob for s in other], abs=1e-4)


def test_one_sample_per_prompt_in_order(drawn):
    assert [len(batch) for batch in drawn] == [30, 5]
    assert len({sample.text for sample in drawn[0]}) > 10  # the samples of a problem differ


def test_length_end_logprob_and_entropy_are_those_of_the_model(drawn, reference):
    """Compared with a full forward pass in double precision. Bounds of the entropy must contain the exact value."""
    model, tokenizer = reference
    for batch, samples in zip(BATCHES, drawn, strict=True):
        for prompt, sample in zip(batch.prompts, samples, strict=True):
            start = tokenizer(prompt).input_ids
            answer = tokenizer(sample.text, add_special_tokens=False).input_ids
            answer += [tokenizer.eos_token_id] if sample.finished else []
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([start + answer])).logits[0, len(start) - 1 : -1].double() / 0.8
            logp = logits.log_softmax(-1)
            assert sample.tokens == len(answer) <= 20
            assert sample.finished or sample.tokens == 20
            assert sample.logprob == pytest.approx(logp[range(len(answer)), answer].sum().item(), abs=1e-3)
            entropy = -(logp.exp() * logp).sum(-1).mean().item()
            if sample.entropy is None:
                assert sample.entropy_topk - 1e-4 <= entropy <= sample.entropy_at_most + 1e-4
                assert 0 <= sample.missing_mass < 0.01
            else:
                assert sample.entropy == pytest.approx(entropy, abs=1e-4)
                assert sample.entropy_topk is None


def test_a_batch_does_not_depend_on_earlier_batches(make_sampler, drawn):
    (second,) = make_sampler().sample(BATCHES[1:])
    assert_same(second, drawn[1])


def test_another_seed_draws_other_samples(make_sampler, drawn):
    (other,) = make_sampler().sample([Batch(BATCHES[1].prompts, seed=3)])
    assert [sample.text for sample in other] != [sample.text for sample in drawn[1]]


def test_a_completion_at_the_length_limit_is_not_finished(make_sampler):
    (cut,) = make_sampler(max_new_tokens=3).sample([Batch(PROMPTS, seed=1)])
    assert [(sample.tokens, sample.finished) for sample in cut] == [(3, False)] * 3


def test_a_low_temperature_gives_low_entropy(make_sampler):
    (cold,) = make_sampler(temperature=0.01).sample([Batch(PROMPTS[:1] * 6, seed=1)])
    assert len({sample.text for sample in cold}) == 1
    assert all((sample.entropy_topk if sample.entropy is None else sample.entropy) < 0.01 for sample in cold)


def test_temperature_0_takes_the_likeliest_token_each_time(make_sampler, reference):
    """Also for a problem that is twice in the batch. Entropy and log-probability are 0."""
    model, tokenizer = reference
    (greedy,) = make_sampler(temperature=0.0).sample([Batch([*PROMPTS, PROMPTS[0]], seed=1)])
    assert greedy[0] == greedy[3]
    for prompt, sample in zip(PROMPTS, greedy, strict=False):
        ids = tokenizer(prompt).input_ids
        start = len(ids)
        while len(ids) - start < 20 and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert (sample.tokens, sample.finished) == (len(ids) - start, ids[-1] == tokenizer.eos_token_id)
        assert sample.text == tokenizer.decode(ids[start:], skip_special_tokens=True)
        assert (sample.logprob, sample.entropy, sample.entropy_topk) == (0.0, 0.0, None)


def test_a_small_top_p_gives_one_completion(make_sampler):
    (narrow,) = make_sampler(top_p=0.05).sample([Batch(PROMPTS[:1] * 6, seed=1)])
    assert len({sample.text for sample in narrow}) == 1
    assert all(sample.logprob == pytest.approx(0, abs=1e-4) for sample in narrow)


def test_the_chat_template_is_used_if_configured(make_sampler, reference):
    """With a template that only repeats the user's message, both paths draw the same samples."""
    _, tokenizer = reference
    (plain,) = make_sampler().sample(BATCHES[1:])
    tokenizer.chat_template = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    try:
        assert_same(*make_sampler(chat=True).sample(BATCHES[1:]), plain)
    finally:
        tokenizer.chat_template = None
