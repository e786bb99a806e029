"""Refusals of vLLM before anything heavy is imported."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from command_line import CommandLine

from progrpo_cli.errors import RequestError
from progrpo_cli.sampling import vllm_setup

GOOD = {"weight_transfer_config": {"backend": "nccl"}, "model_config": {"logprobs_mode": "processed_logprobs"}}


@contextmanager
def stub(pages: dict[str, str]) -> Iterator[str]:
    """A loopback server with these pages, in place of vLLM's, which is not installed for the fast tests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def info(**changes: object) -> str:
    return json.dumps({"vllm_config": {**GOOD, **changes}})


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_missing_vllm_is_refused_with_the_command_to_install_it(progrpo: CommandLine) -> None:
    for command in (["train"], ["sweep", "--space", "demo"]):
        done = progrpo(*command, "train.generation.backend=vllm")
        assert done.returncode == 2
        assert done.stderr.strip().endswith("vLLM is not installed; pip install 'progrpo[vllm]'")
        assert len(done.stderr.strip().splitlines()) == 1
        assert progrpo.written() == []


@pytest.mark.parametrize(
    ("version", "supported"),
    [("0.21.9", False), ("0.22.0", True), ("0.31.0", True), ("0.31.0+cu129", True), ("0.32.0", False), ("1.0", False)],
)
def test_versions_that_trl_does_not_support_are_refused(
    monkeypatch: pytest.MonkeyPatch, version: str, supported: bool
) -> None:
    monkeypatch.setattr(vllm_setup, "installed_version", lambda: version)
    if supported:
        vllm_setup.require_vllm("here")
    else:
        with pytest.raises(RequestError, match=f"vLLM {version} is installed, but 0.22 to 0.31 are supported"):
            vllm_setup.require_vllm("here")


def test_a_server_that_does_not_answer_is_refused() -> None:
    with stub({}) as url:
        pass
    with pytest.raises(RequestError, match=r"no vLLM server answers \(.*refused.*\); start one: .*vllm serve"):
        vllm_setup.require_server(url)


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ({}, "no vLLM server answers"),
        ({"/health": ""}, "VLLM_SERVER_DEV_MODE=1 is not set"),
        ({"/health": "", "/server_info": "<html>"}, "is not a vLLM server"),
        ({"/health": "", "/server_info": "{}"}, "is not a vLLM server"),
        ({"/health": "", "/server_info": info(weight_transfer_config=None)}, "does not accept weights"),
        ({"/health": "", "/server_info": info(model_config={"logprobs_mode": "raw_logprobs"})}, "raw_logprobs"),
    ],
)
def test_a_server_without_an_option_that_training_needs_is_refused(pages: dict[str, str], message: str) -> None:
    with stub(pages) as url, pytest.raises(RequestError, match=message) as caught:
        vllm_setup.require_server(url)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_with_all_options_that_training_needs_is_accepted() -> None:
    with stub({"/health": "", "/server_info": info()}) as url:
        vllm_setup.require_server(url)


def test_workers_that_would_share_a_server_are_refused(monkeypatch: pytest.MonkeyPatch, progrpo: CommandLine) -> None:
    from progrpo_cli.studies.open import Settings
    from progrpo_cli.studies.start import sweep

    monkeypatch.chdir(progrpo.directory)
    monkeypatch.setattr(vllm_setup, "installed_version", lambda: "0.31.0")
    server = ["train.generation.backend=vllm", "train.generation.mode=server"]
    with stub({"/health": "", "/server_info": info()}) as url:
        server.append(f"train.generation.server_url={url}")
        with pytest.raises(RequestError, match="try --workers 1"):
            sweep("demo", server, Settings(workers=2), study=None, dry_run=False)
    assert progrpo.written() == []
