"""A study on every storage in the real optuna-dashboard, started as in docs/sweeps.md."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from studies.simulated import Study


@contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """Start a dashboard and yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [program, "--host", "127.0.0.1", "--port", str(port), storage]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def get_json(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def test_the_study_opens(study: Study) -> None:
    plan = study.plan()
    study.work(plan)
    with dashboard(plan.storage or str(study.directory / "optuna.journal")) as url:
        (summary,) = [s for s in get_json(f"{url}/api/studies")["study_summaries"] if s["study_name"] == plan.name]
        details = get_json(f"{url}/api/studies/{summary['study_id']}?after=0")
        with urllib.request.urlopen(f"{url}/dashboard", timeout=60) as page:
            assert b"<title>Optuna Dashboard" in page.read()
    assert summary["directions"] == ["maximize"]
    by_alpha = {trial["params"][0]["param_external_value"]: trial for trial in details["trials"]}
    assert sorted(by_alpha) == ["0.0", "0.5", "1.0"]
    for trial in by_alpha.values():
        assert trial["state"] == "Complete"
        attributes = {attribute["key"]: attribute["value"] for attribute in trial["user_attrs"]}
        assert {"config_hash", "run/0", "run/1", "interval/pass@32"} <= attributes.keys()
    assert float(by_alpha["0.5"]["values"][0]) == pytest.approx(0.9005)
