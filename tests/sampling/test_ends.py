"""Sampling, training and evaluation use the same end tokens, on a policy with two of them."""

import json
from pathlib import Path

import pytest
from command_line import TINY, CommandLine, read_metrics
from real_vllm import ENVIRONMENT, SHORT, needs_vllm
from transformers import AutoTokenizer, GenerationConfig
from two_ended import OTHER, OWN, write_two_ended

from progrpo_cli.config.compose import compose
from progrpo_cli.config.hashing import config_hash
from progrpo_cli.config.paths import ASSETS
from progrpo_cli.errors import RequestError
from progrpo_cli.policies import policy
from progrpo_cli.records.rundir import RunDirectory
from progrpo_cli.sampling.base import Batch
from progrpo_cli.sampling.ends import end_tokens, ensure_special_tokens
from progrpo_cli.sampling.hf import HfSampler
from progrpo_cli.training import own_rollouts
from progrpo_cli.training.launch import train_in

BATCH = Batch(["3 5 7 12=24:"] * 12 + ["1 2 3 4=9:"] * 12, seed=1)
SETTINGS = {"temperature": 0.8, "top_p": 1.0, "max_new_tokens": 30, "chat": False}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}<bos>\n{% endif %}{% endfor %}"


@pytest.fixture(scope="module")
def two_ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_ended(tmp_path_factory.mktemp("models") / "two_ended")


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(ASSETS / "lab-base")


def load(directory: Path):
    return policy.load(policy.resolve(str(directory)), "float32", "cpu", chat=False)


@pytest.mark.parametrize(
    ("configured", "template", "stop_tokens", "ends"),
    [
        (2, None, [], (2,)),
        (None, None, [], (2,)),
        ([2, 1], None, [], (1, 2)),
        (1, None, [], (1, 2)),  # the configuration lacks the tokenizer's token
        (2, TEMPLATE, [], (1, 2)),
        (2, TEMPLATE.replace("<bos>\n", ""), [], (2,)),
        (2, TEMPLATE.replace("<bos>\n", "+"), [], (2,)),  # not a special token: it may occur in an answer
        (2, "{{ raise_exception('never') }}", [], (2,)),
        (2, None, ["<bos>"], (1, 2)),
        (2, None, ["<bos>", "<eos>"], (1, 2)),
    ],
)
def test_the_end_tokens_of_all_sources_are_joined(tokenizer, configured, template, stop_tokens, ends) -> None:
    tokenizer.chat_template = template
    assert end_tokens(tokenizer, GenerationConfig(eos_token_id=configured), stop_tokens) == ends


def test_without_any_end_token_it_is_refused_and_missing_special_tokens_are_set(tokenizer) -> None:
    tokenizer.eos_token = tokenizer.pad_token = None
    with pytest.raises(RequestError, match="no token ends a completion"):
        end_tokens(tokenizer, GenerationConfig())
    ends = end_tokens(tokenizer, GenerationConfig(), ["<bos>"])
    ensure_special_tokens(tokenizer, ends)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (OTHER, OTHER)


@pytest.mark.parametrize("text", ["<bso>", "12345+"])
def test_a_stop_token_that_is_not_one_token_is_refused(tokenizer, text: str) -> None:
    with pytest.raises(RequestError, match=r"model.stop_tokens: .* not one token of the vocabulary"):
        end_tokens(tokenizer, GenerationConfig(), [text])


def hf_samples(directory: Path):
    return next(iter(HfSampler(*load(directory), **SETTINGS).sample([BATCH])))


def vllm_samples(directory: Path):
    from progrpo_cli.sampling.vllm import VllmSampler

    source = policy.resolve(str(directory))
    tokenizer = policy.load_tokenizer(source, chat=False)
    ends = end_tokens(tokenizer, policy.load_generation_config(source))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        sampler = VllmSampler(str(directory), tokenizer, dtype="float32", ends=ends, **SETTINGS)
        return next(iter(sampler.sample([BATCH])))


@pytest.mark.parametrize("draw", [hf_samples, pytest.param(vllm_samples, marks=[pytest.mark.long, needs_vllm])])
def test_samples_end_at_either_token_with_nothing_after_it(draw, two_ended: Path) -> None:
    samples = draw(two_ended)
    assert sum(sample.finished for sample in samples) >= 20
    _, tokenizer = load(two_ended)
    for sample in samples:  # the end token comes last and is not in the text
        assert sample.tokens == len(tokenizer(sample.text, add_special_tokens=False).input_ids) + sample.finished


def test_the_samples_equal_those_of_the_same_policy_with_one_end_token(two_ended: Path) -> None:
    ours, theirs = hf_samples(two_ended), hf_samples(ASSETS / "lab-base")
    assert [(s.text, s.tokens, s.finished) for s in ours] == [(s.text, s.tokens, s.finished) for s in theirs]


def first_update(run: Path, path: str, *overrides: str) -> dict:
    few = [*TINY, "train.steps=2", "tracking.wandb.mode=disabled", f"model.path={path}", *overrides]
    train_in(RunDirectory(run), compose(few))
    return read_metrics(run)[0]


@pytest.mark.parametrize("by_generate", [False, True])
def test_training_rewards_answers_that_end_with_either_token(
    two_ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_generate: bool
) -> None:
    """The same samples get the same rewards as with one end token. With only one known, all would be truncated."""
    if by_generate:
        monkeypatch.setattr(own_rollouts, "has_plain_cache", lambda model: False)
    ours = first_update(tmp_path / "two", str(two_ended), "train.eval_every=2")
    theirs = first_update(tmp_path / "one", str(ASSETS / "lab-base"), "train.eval_every=2")
    assert theirs["reward"] > 0
    for name in ("reward", "truncated_fraction", "completion_length", "validation/pass@1"):
        assert ours.get(name) == pytest.approx(theirs.get(name)), name
    saved = json.loads((tmp_path / "two" / "policy" / "generation_config.json").read_text())
    assert sorted(saved["eos_token_id"]) == [OTHER, OWN]


def test_a_stop_token_of_the_configuration_ends_completions(tmp_path: Path) -> None:
    unnamed = write_two_ended(tmp_path / "model", named=False)
    assert first_update(tmp_path / "without", str(unnamed))["truncated_fraction"] == 1.0
    with_it = first_update(tmp_path / "with", str(unnamed), 'model.stop_tokens=["<bos>"]')
    assert with_it["truncated_fraction"] < 0.5
    assert with_it["reward"] > 0


def test_stop_tokens_are_in_the_hash_unless_empty() -> None:
    assert config_hash(compose(["model.stop_tokens=[]"])) == config_hash(compose())
    assert config_hash(compose(['model.stop_tokens=["<bos>"]'])) != config_hash(compose())


def test_an_evaluation_records_its_end_tokens(two_ended: Path, progrpo: CommandLine) -> None:
    few = ["--tasks", "countdown", "--k", "1", "--n", "4", "--limit", "4"]
    two = progrpo.json("eval", str(two_ended), *few)
    unnamed = write_two_ended(progrpo.directory / "unnamed", named=False)
    done = progrpo("eval", str(unnamed), *few, "--json")
    one = json.loads(done.stdout)
    assert (two["end_tokens"], one["end_tokens"]) == (["<bos>", "<eos>"], ["<eos>"])
    assert two["verdicts"]["truncated"] < one["verdicts"]["truncated"] == 16
    assert "100% of the samples are truncated" in done.stderr
    assert Path(two["eval_dir"]).name != Path(one["eval_dir"]).name
    assert two["comparable_key"] == one["comparable_key"]


@pytest.mark.long
@needs_vllm
@pytest.mark.parametrize("named", [True, False])
def test_trl_with_vllm_stops_at_either_token(progrpo: CommandLine, named: bool) -> None:
    model = write_two_ended(progrpo.directory / "model", named=named)
    stop = [] if named else ['model.stop_tokens=["<bos>"]']
    few = [*SHORT, "train.generation.backend=vllm", f"model.path={model}", *stop]
    result = progrpo.json("train", *few, **ENVIRONMENT)
    first = read_metrics(progrpo.directory / result["run_dir"])[0]
    assert first["truncated_fraction"] < 0.5
    assert first["completion_length"] < 25
