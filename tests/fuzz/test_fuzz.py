"""The fuzzer notices what it looks for. ``make fuzz`` runs it for minutes."""

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import fuzzer
import pytest
from fuzz_mutations import mutated
from fuzz_targets import Target, judge

from progrpo_cli.tasks.countdown.task import Countdown


@pytest.fixture(autouse=True)
def process_as_before(log_as_before: None) -> Iterator[None]:
    """Commands that run in this process change its log and its signal handlers; other tests need the earlier ones."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)


def ends(monkeypatch: pytest.MonkeyPatch, action: object) -> None:
    """Have `progrpo list` do something else."""
    Path("runs").mkdir(exist_ok=True)
    monkeypatch.setattr("progrpo_cli.records.find.find_runs", action)


def fail(*_: object) -> None:
    raise KeyError("unforeseen")


def test_an_unforeseen_exception_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    assert fuzzer.outcome(["list", "runs"], tmp_path / "state") == ""
    assert fuzzer.outcome(["list", "nothing"], tmp_path / "state") == ""  # refused: exit code 2
    ends(monkeypatch, fail)
    assert "KeyError: 'unforeseen'" in fuzzer.outcome(["list", "runs"], tmp_path / "state")


def test_a_command_that_does_not_end_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fuzzer, "SECONDS", 1)
    ends(monkeypatch, lambda *_: time.sleep(30))
    assert "not done" in fuzzer.outcome(["list", "runs"], tmp_path / "state")


def test_the_file_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "own.json"
    file.write_text('{"a": 1}')
    for seed in range(40):
        fuzzer.turn(Target(file, (("list", "tasks"),)), tmp_path / "state", random.Random(seed))
        assert file.read_text() == '{"a": 1}'


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.jsonl", "a.wandb"])
def test_a_seed_damages_a_file_always_in_the_same_way(name: str) -> None:
    content = b'{"a": [1, {"b": "c"}], "d": null}\n' * (3 if name.endswith("l") and "json" in name else 1)
    made = [mutated(content, name, random.Random(seed)) for seed in range(200)]
    assert made == [mutated(content, name, random.Random(seed)) for seed in range(200)]
    assert sum(version != content for version in made) > 150
    if name == "a.json":
        readable = 0
        for version in made:
            try:
                json.loads(version)
                readable += 1
            except ValueError:
                continue
        assert 60 < readable < 190  # some get past the parser, some do not


def test_an_error_of_a_judge_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Countdown(30, {"rl": 0, "validation": 0, "test": 5})
    assert judge([task], random.Random(0)) == ""
    monkeypatch.setattr(Countdown, "verdicts", lambda self, attempts: ["error"] * len(attempts))
    assert "countdown: error" in judge([task], random.Random(0))
