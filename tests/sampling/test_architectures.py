"""Tiny random models of many architectures: samples have the probabilities of a full pass, or the model is refused."""

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from progrpo_cli.config.paths import ASSETS
from progrpo_cli.errors import RequestError
from progrpo_cli.policies import policy
from progrpo_cli.sampling.base import Batch
from progrpo_cli.sampling.decoders import decoder_for, draw_by_generate
from progrpo_cli.sampling.decoding import Prompts, draw
from progrpo_cli.sampling.hf import HfSampler
from progrpo_cli.sampling.positions import require_positions

COMMON = {
    "vocab_size": 114, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
DELTA = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "num_hidden_layers": 4,
}  # fmt: skip
BY_LOOP: dict[str, dict] = {
    **{name: {} for name in ("llama", "qwen2", "qwen3", "phi3", "gpt_neox")},
    **{name: {"sliding_window": 4} for name in ("gemma2", "gemma3_text", "mistral")},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
}
BY_GENERATE: dict[str, dict] = {
    "mamba": {"state_size": 4},
    "recurrent_gemma": {
        **{"lru_width": 32, "attention_window_size": 16, "num_hidden_layers": 3},
        "block_types": ["recurrent", "recurrent", "attention"],
    },
    "jamba": {
        **{"num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 4, "use_mamba_kernels": False},
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    },
    "lfm2": {"full_attn_idxs": [1]},
    "nemotron_h": {
        **{"hybrid_override_pattern": "M*", "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 4},
        **{"n_groups": 1, "chunk_size": 8},
    },
    "qwen3_next": {
        **DELTA,
        **{"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
        "shared_expert_intermediate_size": 16,
    },
    "qwen3_5_text": DELTA,
}
SLOW: dict[str, dict] = {
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 4, "expand": 2, "chunk_size": 8},
    "granitemoehybrid": {
        **{"layer_types": ["mamba", "attention"], "num_local_experts": 2, "num_experts_per_tok": 1},
        **{"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1},
        "shared_intermediate_size": 32,
    },
    "bamba": {
        **{"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4},
        "mamba_n_groups": 1,
    },
    "falcon_h1": {
        **{"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4},
        "mamba_n_groups": 1,
    },
}
ENDS = (2, *range(20, 50))
EVERY = {**BY_LOOP, **BY_GENERATE, **SLOW}
QUICK = [*BY_LOOP, *BY_GENERATE]
WITH_SLOW = [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in SLOW)]


def tiny(name: str):
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**COMMON, **EVERY[name]})).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(ASSETS / "lab-base", padding_side="left")


@pytest.mark.parametrize("name", WITH_SLOW)
def test_drawn_tokens_have_the_probabilities_of_a_full_pass(name: str) -> None:
    """And its entropies, with padded prompts, several rows per prompt and several end tokens."""
    model = tiny(name)
    decoder = decoder_for(model)
    assert decoder is (draw if name in BY_LOOP else draw_by_generate)
    texts = [[1, 7, 9, 11, 5, 8], [1, 6, 10], [1, 12, 4, 9]]
    ids = torch.tensor([[0] * (6 - len(text)) + text for text in texts])
    rows = torch.tensor([0, 0, 1, 1, 2, 2, 1])
    uniforms = torch.rand((8, 7), generator=torch.Generator().manual_seed(5))
    completions = decoder(
        model,
        Prompts(ids, (ids > 0).long(), rows),
        uniforms,
        ends=ENDS,
        distribution=lambda logits: (logits.float() / 0.7).log_softmax(-1),
    )
    assert len({len(tokens) for tokens in completions.tokens}) > 1, "no row has ended early"
    for row, tokens in enumerate(completions.tokens):
        assert len(tokens) == 8 or tokens[-1] in ENDS
        assert not set(tokens[:-1]) & set(ENDS)
        prompt = texts[rows[row]]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].float() / 0.7
        logp = logits.log_softmax(-1)
        assert completions.logps[row].item() == pytest.approx(logp[range(len(tokens)), tokens].sum().item(), abs=2e-3)
        assert completions.entropies[row].item() == pytest.approx(-(logp.exp() * logp).sum().item(), abs=2e-3)


@pytest.mark.parametrize("name", QUICK)
def test_each_architecture_stops_at_all_end_tokens_and_is_reproducible(name: str, tokenizer) -> None:
    model = tiny(name)
    model.generation_config.eos_token_id = [2, *range(20, 30)]
    sampler = HfSampler(model, tokenizer, temperature=1.0, top_p=0.95, max_new_tokens=12, chat=False)
    batches = [Batch(["3 5 7 12=24:", "1 2=9:"] * 3, seed=1), Batch(["1 2 3 4=9:"] * 2, seed=2)]
    first, again = list(sampler.sample(batches)), list(sampler.sample(batches))
    assert first == again
    samples = [sample for batch in first for sample in batch]
    assert any(sample.finished for sample in samples)
    assert all(sample.finished or sample.tokens == 12 for sample in samples)


@pytest.mark.parametrize("name", QUICK)
def test_prompts_beyond_the_positions_are_refused(name: str, tokenizer) -> None:
    model = tiny(name)
    sampler = HfSampler(model, tokenizer, temperature=1.0, top_p=1.0, max_new_tokens=2, chat=False)
    batch = Batch(["+" * 80], seed=1)
    if not hasattr(model.config, "max_position_embeddings"):  # a recurrent model has no limit
        assert next(iter(sampler.sample([batch])))[0].tokens > 0
        return
    with pytest.raises(RequestError, match=r"the longest prompt has 8[0-9] tokens.*the model has 64 positions"):
        next(iter(sampler.sample([batch])))


def test_a_table_of_positions_needs_room_for_the_completion() -> None:
    for name, refused in (("gpt2", True), ("llama", False)):
        config = AutoConfig.for_model(name, **{**COMMON, **EVERY[name]})
        if refused:
            with pytest.raises(RequestError, match="completion up to 40"):
                require_positions(config, 30, 40)
        else:
            require_positions(config, 30, 40)


def test_a_model_without_a_working_decoder_is_refused_in_one_line() -> None:
    options = {**COMMON, "attention_hidden_size": 32, "context_length": 64}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("rwkv", **options)).eval()
    with pytest.raises(RequestError, match="models of type rwkv cannot be sampled from here") as caught:
        decoder_for(model)
    assert "\n" not in str(caught.value)


def test_choosing_a_decoder_changes_neither_random_state_nor_mode() -> None:
    model = tiny("llama").train()
    before = torch.get_rng_state()
    decoder_for(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba"])
def test_weights_that_are_not_finite_are_refused(name: str, value: float, tokenizer, tmp_path: Path) -> None:
    model = tiny(name)
    with torch.no_grad():
        next(model.parameters())[0, 0] = value
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(RequestError, match=r"cannot load .* has values that are not finite"):
        policy.load(policy.resolve(str(tmp_path)), "float32", "cpu", chat=False)
