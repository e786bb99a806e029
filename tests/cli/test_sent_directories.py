"""Directories and files from somebody else cannot make progrpo run code; only the command line can."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command_line import TINY, CommandLine

OWN = {
    "task.dataset": "mine.jsonl",
    "task.name": "mine",
    "task.chat": "false",
    "task.max_new_tokens": "24",
    "task.shares.rl": "40",
    "task.shares.validation": "30",
    "task.shares.test": "30",
    "task.verdict": "evil:judge",
}
DEMANDS = ["task=own", *(f"{key}={value}" for key, value in OWN.items())]
SMALL = [*TINY[:3], "train.steps=2", "tracking.wandb.mode=disabled"]
SPACE = {
    "parameters": {"method.arm.alpha": [0.3]},
    "overrides": ["method=progrpo"],
    "seeds": [0],
    "objectives": [{"metric": "pass@1"}],
    "k": [1],
    "workers": 1,
}


@pytest.fixture
def evil(progrpo: CommandLine) -> CommandLine:
    """A directory with problems and a module that leaves a file when it is imported."""
    (progrpo.directory / "evil.py").write_text("open('executed', 'w')\n\ndef judge(problem, text):\n    return True\n")
    lines = [{"prompt": f"{a} 1 1 1={a}:", "answer": f"{a}*1*1*1"} for a in range(1, 10)]
    (progrpo.directory / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return progrpo


def assert_refused(command: CommandLine, words: str, *arguments: str) -> None:
    before = command.written()
    done = command(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (command.directory / "executed").exists()
    assert command.written() == before


def sent_run(command: CommandLine, trained: tuple[CommandLine, dict[str, Path]], *overrides: str) -> Path:
    """Return a finished run with a configuration that somebody else has changed."""
    run = command.directory / "sent"
    shutil.copytree(trained[1]["grpo"], run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["task"] = yaml.safe_load(command("train", "--dry-run", *overrides).stdout)["task"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def test_a_verdict_function_in_a_runs_configuration(
    evil: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    sent_run(evil, trained, *DEMANDS)
    assert_refused(evil, "task.verdict=evil:judge, which runs code", "eval", "sent", "--k", "1")
    scores = evil.json("eval", "sent", "--k", "1", "--trust-config")  # with this option the attack works
    assert scores["pass@1"]["value"] > 0.5
    (evil.directory / "executed").unlink()
    assert evil("report", "sent", "--format", "csv").returncode == 0
    assert evil("list", "runs").returncode == 0
    assert not (evil.directory / "executed").exists()


def test_a_sandbox_turned_off_in_a_runs_configuration(
    evil: CommandLine, trained: tuple[CommandLine, dict[str, Path]]
) -> None:
    sent_run(evil, trained, "task=humaneval", "task.sandbox=none")
    assert_refused(evil, "task.sandbox=none", "eval", "sent", "--k", "1")


@pytest.mark.parametrize("setting", ["task.verdict=evil:judge", "model.trust_remote_code=true"])
def test_a_space_cannot_demand_code_and_the_command_line_can(evil: CommandLine, setting: str) -> None:
    harmless = ["task=own", *(f"{key}={value}" for key, value in OWN.items() if key != "task.verdict")]
    space = {**SPACE, "overrides": ["method=progrpo", *harmless, setting]}
    (evil.directory / "sent.yaml").write_text(yaml.safe_dump(space))
    assert_refused(evil, f"the space sets {setting}", "sweep", "--space", "sent.yaml", *SMALL)
    assert evil("sweep", "--space", "sent.yaml", *SMALL, setting, "--dry-run").returncode == 0


def test_a_space_cannot_vary_keys_that_run_code(evil: CommandLine) -> None:
    parameters = {"task.verdict": ["evil:judge"]}
    space = {**SPACE, "overrides": DEMANDS[:-1], "parameters": parameters}
    (evil.directory / "sent.yaml").write_text(yaml.safe_dump(space))
    assert_refused(evil, "the space sets task.verdict", "sweep", "--space", "sent.yaml", *SMALL)


def test_a_worker_of_a_study_from_somebody_else(evil: CommandLine) -> None:
    """A study that was started here may use its verdict function; without this user's signature it may not."""
    (evil.directory / "mine.yaml").write_text(yaml.safe_dump(SPACE))
    result = evil.json("sweep", "--space", "mine.yaml", *SMALL, *DEMANDS)
    assert [run["status"] for run in result["runs"]] == ["complete"]
    (evil.directory / "executed").unlink()
    study = evil.directory / "runs" / "mine"
    content = yaml.safe_load((study / "study.yaml").read_text())
    worker = ["sweep", "--worker", "--study", "runs/mine"]
    assert evil(*worker).returncode == 0  # this user has signed it
    (study / ".study.signature").rename(evil.directory / "signature")
    assert_refused(evil, "task.verdict=evil:judge", *worker)
    (evil.directory / "signature").rename(study / ".study.signature")  # it does not match the contents below
    content["bases"][0]["config"]["task"]["verdict"] = None
    content["bases"][0]["config"]["model"]["trust_remote_code"] = True
    (study / "study.yaml").write_text(yaml.safe_dump(content))
    assert_refused(evil, "model.trust_remote_code=true", *worker)
    content["bases"][0]["config"]["model"]["trust_remote_code"] = False
    content["space"]["parameters"] = {"task.verdict": ["evil:judge"]}
    (study / "study.yaml").write_text(yaml.safe_dump(content))
    assert_refused(evil, "sets task.verdict=", *worker)


def test_a_run_of_this_user_needs_no_approval(evil: CommandLine) -> None:
    run = evil.json("train", "--run-dir", "ours", *SMALL, *DEMANDS)
    assert run["status"] == "finished"
    key = evil.directory / ".state" / "progrpo" / "key"
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    assert evil.json("eval", "ours", "--k", "1")["pass@1"]["value"] > 0.5
    (evil.directory / "executed").unlink()
    config = evil.directory / "ours" / "config.yaml"
    config.write_text(config.read_text().replace("evil:judge", "evil:other"))  # the signature does not match now
    assert_refused(evil, "task.verdict=evil:other", "eval", "ours", "--k", "1")
    config.write_text(config.read_text().replace("evil:other", "evil:judge"))
    key.write_bytes(bytes(32))  # another user's key
    assert_refused(evil, "task.verdict=evil:judge", "eval", "ours", "--k", "1")
