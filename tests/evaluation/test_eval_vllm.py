"""`progrpo eval --backend vllm` with a real vLLM, and its error without one."""

import importlib.util
import json

import pytest
from command_line import CommandLine
from real_vllm import ENVIRONMENT, needs_vllm


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_missing_vllm_gives_a_one_line_error(progrpo: CommandLine) -> None:
    done = progrpo("eval", "progrpo/lab-base", "--backend", "vllm")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["progrpo: --backend vllm: vLLM is not installed; pip install 'progrpo[vllm]'"]
    assert progrpo.written() == []


@pytest.mark.long
@needs_vllm
def test_scores_agree_with_transformers_and_a_resume_keeps_existing_batches(progrpo: CommandLine) -> None:
    arguments = ["eval", "progrpo/lab-base", "--k", "1,4", "--n", "32", "--limit", "24"]
    ours = progrpo.json(*arguments)
    theirs = progrpo.json(*arguments, "--backend", "vllm", **ENVIRONMENT)
    assert theirs["backend"] == "vllm"
    assert theirs["eval_dir"] != ours["eval_dir"]
    assert theirs["entropy"] is None
    bounds = theirs["entropy_topk"]
    # Two independent draws of 768 samples; the tolerance is about half the width of their intervals.
    assert bounds["value"] == pytest.approx(ours["entropy"]["value"], abs=0.06)
    assert bounds["value"] <= bounds["at_most"] <= bounds["value"] + 0.01
    assert bounds["missing_mass"] < 0.001
    assert theirs["pass@1"]["value"] == pytest.approx(ours["pass@1"]["value"], abs=0.06)

    samples = progrpo.directory / theirs["eval_dir"] / "samples.jsonl"
    whole = samples.read_text()
    assert set(json.loads(whole.splitlines()[0])) >= {"entropy_topk", "missing_mass", "entropy_at_most", "logprob"}
    samples.write_text(whole[: len(whole) // 2])
    again = progrpo.json(*arguments, "--backend", "vllm", **ENVIRONMENT)
    before, after = ([json.loads(line) for line in text.splitlines()] for text in (whole, samples.read_text()))
    assert after[:256] == before[:256]  # the complete batch is kept
    assert [(s["problem_id"], s["sample_index"]) for s in after] == [
        (s["problem_id"], s["sample_index"]) for s in before
    ]
    # vLLM's scheduling varies between runs: sums round differently, and occasionally that changes a token.
    assert sum(a["text"] == b["text"] for a, b in zip(after, before, strict=True)) >= 0.98 * len(before)
    assert again["pass@1"]["value"] == pytest.approx(theirs["pass@1"]["value"], abs=0.02)
