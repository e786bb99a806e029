"""Training with a real vLLM server. NCCL, over which TRL sends weights, needs GPUs: here they go over gloo.

`vllm_on_cpu/gloo_engine.py` replaces the transport at both ends. The server, its requests, how it loads what it gets,
and TRL's client are the real ones.
"""

import math
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine, read_metrics
from real_vllm import ENVIRONMENT, LIVE, ON_CPU, SHORT, confidences_of_the_base_policy, needs_vllm

from progrpo_cli.config.paths import ASSETS, EXPERIMENTS, names
from progrpo_cli.studies.planning import make_plan
from progrpo_cli.studies.space import parse_space

pytestmark = [pytest.mark.long, needs_vllm]

METHODS = names(EXPERIMENTS / "method")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A server of the lab's base policy, as overrides of `progrpo train`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("server") / "log"
    # `vllm serve` is this module; the CPU build's `vllm` command asks for a distribution of that name and ends.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(ASSETS / "lab-base")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "64"]
    command += ["--weight-transfer-config", '{"backend": "gloo"}', "--logprobs-mode", "processed_logprobs"]
    environment = {**os.environ, **ENVIRONMENT, "VLLM_SERVER_DEV_MODE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 400
        while not healthy(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        yield [
            *SHORT,
            "train.generation.backend=vllm",
            "train.generation.mode=server",
            f"train.generation.server_url={url}",
            f"train.generation.server_sync_port={free_port()}",
        ]
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def over_gloo(tmp_path: Path) -> CommandLine:
    command = CommandLine(tmp_path, str(ON_CPU / "progrpo_watched.py"))
    command.environment.update(ENVIRONMENT, OVER_GLOO="1")
    return command


def test_without_a_gpu_the_request_is_refused_in_one_line(progrpo: CommandLine, server: list[str]) -> None:
    done = progrpo("train", *server, **ENVIRONMENT)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "train.generation.mode=server" in last
    assert "CUDA" in last
    assert "mode=colocate" in last
    assert progrpo.written() == ["runs"]


def test_the_control_a_server_that_gets_no_weights_is_seen(over_gloo: CommandLine, server: list[str]) -> None:
    record = over_gloo.directory / "completions.jsonl"
    over_gloo.json("train", *server, "--run-dir", ".", RECORD=str(record), FORGET_TO_SYNC="1")
    metrics = read_metrics(over_gloo.directory)
    stale = [line["sampling_logp_difference"] for line in metrics]
    assert stale[0] < LIVE, "before the first update both have the base policy's weights"
    assert min(stale[2:]) > 10 * LIVE
    c_prompt, c_answer = confidences_of_the_base_policy(record, 16)
    assert metrics[0]["arm/prompt_confidence"] == pytest.approx(c_prompt, abs=1e-5)
    assert metrics[0]["arm/answer_confidence"] == pytest.approx(c_answer, abs=1e-5)


def test_the_server_has_the_weights_of_each_update_of_each_run_of_a_worker(
    over_gloo: CommandLine, server: list[str]
) -> None:
    """Every method, one after the other in one process: each run takes the server over, on the same port."""
    study = over_gloo.directory / "study"
    content = {"parameters": {"method": METHODS}, "seeds": [0], "objectives": [{"metric": "pass@4"}], "k": [1, 4]}
    space = parse_space({**content, "workers": 1}, "methods")
    plan = make_plan(space, [*server, "train.group_size=8", "task.validation_problems=4"], study)
    plan.freeze()
    # The plan was made in this process, whose key is another one than the command's.
    done = over_gloo("sweep", "--worker", "--study", str(study), "--trust-config")
    assert done.returncode == 0, done.stderr
    for (run,) in map(plan.runs_of, plan.grid):
        name = run.config.method.name
        assert list(run.directory.path.glob("eval/*/scores.json")), (name, done.stderr)
        metrics = read_metrics(run.directory.path)
        assert len(metrics) == 6
        assert all(value is None or math.isfinite(value) for line in metrics for value in line.values()), name
        assert any(line["grad_norm"] for line in metrics[:2]), f"{name}: the first rollout changed no weight"
        assert max(line["sampling_logp_difference"] for line in metrics) < LIVE, name
